"""Masks of single weights against blocks of 2 and 4 output channels, for XNNPACK on ARM.

The MobileNet preset with each block size and the same seeds: test accuracy after the
same federated run; and what the zeros are worth on emulated ARM64, where only the ratio
to the dense file means anything. Digits have 8×8 pixels, of which most layers see one;
a kernel does not know the size of its image, so the first seed's weights are timed on
96×96 images, for which the model was made.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import tensorflow as tf

from benchmarks import results_file
from fedtiny_tff.models import registry
from pipelines.runs import model_files
from tflite_export.arm64 import arm64, arm64_setup
from tflite_export.conversion import convert
from tflite_export.xnnpack import eligibility

_PRESET = "pipelines/presets/mobilenet_xnnpack.flags"
_CHANNEL_BLOCKS = (1, 2, 4)
_SEEDS = range(2)
_TIMED_SHAPE = (96, 96, 3)
_TIMED_RUNS = 5
# Further flags of every run.
_FLAGS: tuple[str, ...] = ()


def _train(folder: pathlib.Path, channel_block: int, seed: int) -> dict[str, Any]:
  """Returns the report of a run."""
  subprocess.run(
    [
      sys.executable, "-m", "pipelines.train", f"--flagfile={_PRESET}",
      f"--output_dir={folder}", f"--channel_block={channel_block}", f"--seed={seed}",
      "--nodense_baseline", *_FLAGS,
    ],
    check=True,
    capture_output=True,
  )  # fmt: skip
  return json.loads((folder / "report.json").read_text())


def _on_larger_images(
  trained: tf.keras.Model, configuration: dict[str, Any]
) -> tf.keras.Model:
  """Returns the same weights in the network for `_TIMED_SHAPE`."""
  classes = trained.output_shape[-1]
  larger = registry.get_model(
    configuration["model"], _TIMED_SHAPE, classes, configuration["width"]
  ).build()
  for layer in larger.layers:
    if layer.weights:
      layer.set_weights(trained.get_layer(layer.name).get_weights())
  return larger


def _speed(folder: pathlib.Path, configuration: dict[str, Any]) -> dict[str, Any]:
  """Converts a run's model, dense and sparse, and times both in turn."""
  trained, _ = model_files.load(folder / "model")
  larger = _on_larger_images(trained, configuration)
  dense, sparse = (
    convert.convert(larger, f"fp32_{storage}") for storage in ("dense", "sparse")
  )
  report = eligibility.inspect(sparse)
  if not report.eligible:
    raise RuntimeError("the sparse file would not run sparse on ARM; this is a defect")
  by_block = {
    block: sum(op.macs for op in report.ops if op.block == block) / report.macs
    for block in _CHANNEL_BLOCKS
  }
  dense_seconds, sparse_seconds = (
    float(runs.min()) for runs in arm64.invoke_seconds([dense, sparse], _TIMED_RUNS)
  )
  return {
    "dense_bytes": len(dense),
    "sparse_bytes": len(sparse),
    **{f"macs_by_{block}": share for block, share in by_block.items()},
    "emulated_dense_seconds": dense_seconds,
    "emulated_sparse_seconds": sparse_seconds,
    "emulated_speedup": dense_seconds / sparse_seconds,
  }


def _measure(channel_block: int) -> dict[str, Any]:
  """Trains with every seed and times the first."""
  with tempfile.TemporaryDirectory() as name:
    folders = [pathlib.Path(name) / str(seed) for seed in _SEEDS]
    reports = [
      _train(folder, channel_block, seed)
      for folder, seed in zip(folders, _SEEDS, strict=True)
    ]
    speed = _speed(folders[0], reports[0]["run"])
  accuracies = [report["accuracy"]["sparse"] for report in reports]
  return {
    "channel_block": channel_block,
    "seeds": len(accuracies),
    "density": reports[0]["density"],
    "test_accuracy": statistics.mean(accuracies),
    "test_accuracy_deviation": statistics.stdev(accuracies),
    **speed,
  }


def main() -> None:
  """Compares the block sizes, where the emulator is set up."""
  if problem := arm64_setup.problem():
    print(f"channel_blocks: skipped, {problem}")
    sys.exit(0)
  rows = [_measure(channel_block) for channel_block in _CHANNEL_BLOCKS]
  results_file.publish("channel_blocks", rows)


if __name__ == "__main__":
  main()
