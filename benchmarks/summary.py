"""The README's table of measurements, made from `benchmarks/results/`.

`python -m benchmarks.summary` prints it and where it comes from; a test compares.
"""

from collections.abc import Callable
from typing import Any

from benchmarks import results_file

Rows = list[dict[str, Any]]


def _named(row: dict[str, Any]) -> str:
  width = row.get("width", 1.0)
  return row["model"] if width == 1.0 else f"{row['model']} width {width:g}"


def _joined(rows: Rows, key: str, form: str) -> str:
  return ", ".join(f"{_named(row)} {row[key]:{form}}" for row in rows)


def _population(rows: Rows) -> str:
  seconds = ", ".join(
    f"{1000 * row['seconds_per_round']:.0f} ms at {row['clients']:,}" for row in rows
  )
  memory = [row["rss_mb"] for row in rows]
  return f"{seconds} clients; {min(memory):.0f}–{max(memory):.0f} MB"


def _data_scale(rows: Rows) -> str:
  return "; ".join(
    f"{row['clients']:,} clients: {row['open_seconds']:.1f} s, "
    f"{1000 * row['seconds_per_round']:.0f} ms a round, {row['rss_mb']:.0f} MB"
    for row in rows
  )


def _feeding(rows: Rows) -> str:
  return ", ".join(
    f"{row['fed_to_trained']:.1f} with augmentation {row['augmentations']}"
    for row in rows
  )


def _selection(rows: Rows) -> str:
  row = rows[-1]
  return (
    f"linear: {row['fixed_seconds']:.2f} s + {row['seconds_per_candidate']:.2f} s a "
    f"candidate, which is {row['candidate_to_round']:.0%} of a round"
  )


def _wire(rows: Rows) -> str:
  return f"at most {max(row['upload_to_goal'] for row in rows):.3f}"


def _long_run(rows: Rows) -> str:
  row = rows[0]
  return (
    f"{row['early_rss_mb']:.0f} MB to {row['late_rss_mb']:.0f} MB, "
    f"{row['growth']:+.1%}; a round {_milliseconds(row['early_seconds_per_round'])} "
    f"to {_milliseconds(row['late_seconds_per_round'])} ms, of CPU time "
    f"{_milliseconds(row['early_cpu_seconds_per_round'])} to "
    f"{_milliseconds(row['late_cpu_seconds_per_round'])} ms"
  )


def _milliseconds(seconds: float) -> str:
  return f"{1e3 * seconds:,.0f}"


def _memory(rows: Rows) -> str:
  return "; ".join(
    f"{_named(row)}, {row['images']:,} images: {row['driver_rss_mb']:.0f} and "
    f"{row['worker_rss_mb']:.0f} MB"
    for row in rows
  )


def _peer(rows: Rows) -> str:
  return "; ".join(
    f"{_named(row)}: {row['speed_ratio_float32']:.2f}× its speed "
    f"({row['speed_ratio_bfloat16']:.2f}× in bfloat16), {row['rss_ratio']:.0%} of its "
    f"memory, {row['bytes_ratio']:.1%} of its bytes"
    for row in rows
  )


def _android(rows: Rows) -> str:
  return "; ".join(
    f"{row['model']}: {row['fp32_emulated_speedup']:.2f} in fp32, "
    f"{row['fp16_emulated_speedup']:.2f} in fp16, {row['fp32_sparse_ratio']:.1%} and "
    f"{row['fp16_sparse_ratio']:.1%} of the bytes"
    for row in rows
  )


def _mcu_size(rows: Rows) -> str:
  return "; ".join(
    f"{row['model']} {row['bytes']:,} of {row['published_bytes']:,} "
    f"(arena {row['dense_arena_bytes']:,} to {row['arena_bytes']:,}; "
    f"{row['dense_ms']:.2f} to {row['ms']:.2f} ms)"
    for row in rows
  )


def _mcu_accuracy(rows: Rows) -> str:
  figures = "; ".join(
    f"{row['model']}{' (AUC)' if row['figure'] == 'auc' else ''} "
    f"{row['float']:.1%}, {row['int8']:.1%}, {row['decode']:.1%}"
    for row in rows
  )
  return f"{figures}; {sum(row['identical'] for row in rows)} of {len(rows)} identical"


def _worker_scaling(rows: Rows) -> str:
  return ", ".join(
    f"{row['workers']}: {row['seconds_per_round']:.1f} s ({row['efficiency']:.2f})"
    for row in rows
  )


def _channel_blocks(rows: Rows) -> str:
  return "; ".join(
    f"{row['channel_block']}: {row['test_accuracy']:.1%} "
    f"(±{row['test_accuracy_deviation']:.1%})"
    for row in rows
  )


def _misbehaving(rows: Rows) -> str:
  names = [name for name in rows[0] if name != "one_of_ten_clients"]
  return "; ".join(
    f"{row['one_of_ten_clients']}: " + ", ".join(f"{row[name]:.1%}" for name in names)
    for row in rows
  )


def _privacy(rows: Rows) -> str:
  return "; ".join(
    f"{row['reports']}: {row['test_accuracy']:.1%}, "
    f"{row['upload_bytes_per_client'] / 1024:,.0f} kB"
    for row in rows
  )


def _report_page(rows: Rows) -> str:
  return "; ".join(
    f"{row['rounds']:,} rounds × {row['layers']} layers: {row['page_bytes'] / 1e6:.1f} MB, "
    f"{row['seconds_to_open']:.1f} s"
    for row in rows
  )


def _device_training(rows: Rows) -> str:
  return "; ".join(
    f"{row['model']}: {row['step_ratio']:.1f} × the time; {row['peak_mb']:.0f} MB "
    f"({row['tensorflow_dense_peak_mb']:.0f}); up {row['update_bytes'] / 1e3:.0f} of "
    f"{row['dense_model_bytes'] / 1e3:.0f} kB"
    for row in rows
  )


# Benchmark, what it tells, how its rows are said.
LINES: tuple[tuple[str, str, Callable[[Rows], str]], ...] = (
  (
    "round_throughput",
    "images/s of a TFF round over the fastest plain TensorFlow loop",
    lambda rows: _joined(rows, "ratio", ".2f"),
  ),
  (
    "compute_dtype",
    "bfloat16 round over float32 round",
    lambda rows: _joined(rows, "ratio", ".2f"),
  ),
  (
    "mask_adapter",
    "price of tfmot's wrapper against gradients masked by hand",
    lambda rows: _joined(rows, "price", "+.1%"),
  ),
  ("wire", "upload over 4 bytes × (active weights + all else)", _wire),
  ("population", "a round of 10 clients, by population", _population),
  (
    "data_scale",
    "a run on prepared data, 10 clients a round: data open after (imports included), "
    "time of a round, memory",
    _data_scale,
  ),
  (
    "feeding",
    "images/s of reading, shuffling, decoding over those that training of ResNet-8 takes",
    _feeding,
  ),
  ("selection", "adaptive selection, resnet8, 10 clients", _selection),
  ("memory", "resident memory of the driver and of the worker", _memory),
  ("long_run", "300 rounds, rounds 50–99 to the last 50", _long_run),
  ("peer_library", "against the authors' PyTorch library, by chain of ratios", _peer),
  (
    "android",
    "90 % of the 1×1 convolutions zero, on emulated ARM64: work of the dense file over "
    "the sparse one's; bytes against dense fp32, without metadata",
    _android,
  ),
  (
    "mcu_size",
    "MLPerf Tiny's shapes, 90 % zero: bytes of the encoded file, of the published dense "
    "one; arena and time of an inference in TFLM on this machine, dense to encoded",
    _mcu_size,
  ),
  (
    "mcu_accuracy",
    "the same models after minutes of training on CIFAR-10, 90 % zero, 1,000 test images: "
    "accuracy in float, dense int8 and encoded; whether the latter two give the same bits",
    _mcu_accuracy,
  ),
  (
    "misbehaving",
    "test accuracy on digits, 30 rounds, by what one of ten clients does: with mean, "
    "robust, trimmed mean and median as aggregation",
    _misbehaving,
  ),
  (
    "privacy",
    "2,000 made-up clients, 25 rounds of 100, 20 % density: test accuracy, what a client "
    "uploads over all rounds",
    _privacy,
  ),
  (
    "channel_blocks",
    "mask blocks of 1, 2 and 4 output channels: test accuracy (digits, 20 % density, two "
    "seeds), only to be compared with each other",
    _channel_blocks,
  ),
  (
    "worker_scaling",
    "a round of 16 clients that wait 4 s each, by number of workers (and efficiency)",
    _worker_scaling,
  ),
  (
    "report_page",
    "a run's page: its size, and when it is open in Chromium",
    _report_page,
  ),
  (
    "device_training",
    "a device's client in LiteRT, 10 % density: a step's time over TensorFlow's on one "
    "core; peak memory of its process (of TensorFlow's that trains the dense model); bytes "
    "up in a round, of the dense model's",
    _device_training,
  ),
  (
    "comparison_overhead",
    "CPU time of a comparison over that of the same runs by `pipelines.train` (it loads "
    "TensorFlow once)",
    lambda rows: f"{rows[0]['cells']} cells: {rows[0]['overhead_cpu_percent']:+.1f} %",
  ),
)


def markdown() -> str:
  """Returns the table, lines ending in newline."""
  lines = ["| benchmark | what | measured |", "| --- | --- | --- |"]
  for name, what, say in LINES:
    rows = results_file.read(name).rows
    lines.append(f"| `{name}` | {what} | {say(rows)} |")
  return "".join(f"{line}\n" for line in lines)


def provenance() -> str:
  """Returns a sentence that tells where and of what the table's rows were measured."""
  found = [results_file.read(name) for name, _, _ in LINES]
  machines = sorted({f"{each.cores} cores of {each.processor}" for each in found})
  commits = sorted({str(each.commit) for each in found})
  named = " and ".join(f"`{commit}`" for commit in commits)
  return f"Measured on {' and '.join(machines)}, at commit {named}."


if __name__ == "__main__":
  print(markdown(), end="")
  print(f"\n{provenance()}")
