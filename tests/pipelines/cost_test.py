"""The app: check values of the paper's setting, ratios, and what it refuses."""

import json
import subprocess
import sys

import pytest
import tensorflow as tf
from absl import flags

from pipelines import cost
from pipelines.settings import run_flags
from tests.pipelines import support

REQUIRED = {
  "parameters", "macs", "forward_flops", "training_flops_per_round",
  "adjust_round_flops", "memory_bytes", "activation_bytes", "upload_bytes",
  "adjust_upload_bytes", "download_bytes",
}  # fmt: skip


def _figures(capsys, *arguments):
  assert support.call("cost", cost.main, *arguments, "--format=json") == 0
  printed = capsys.readouterr()
  assert printed.err == ""
  return json.loads(printed.out)


class TestPaper:
  """ResNet18 on 32x32 RGB, 10 classes; 5,000 samples, 5 epochs, batch 64; 1 %."""

  @pytest.fixture(name="paid")
  def fixture_paid(self, capsys):
    def pay(strategy):
      return _figures(
        capsys, "--model=resnet18", f"--strategy={strategy}", "--target_density=0.01"
      )

    return pay

  def test_dense(self, paid):
    found = paid("fedavg")
    assert set(found) >= REQUIRED
    assert found["parameters"] == 11_173_962
    assert found["macs"] == pytest.approx(555.4e6, rel=1e-4)
    assert found["training_flops_per_round"] == pytest.approx(8.33e13, rel=1e-3)
    assert found["memory_bytes"] == pytest.approx(89.39e6, rel=0.005)
    assert found["density"] == found["density_all_parameters"] == 1.0
    assert {key: found[key] for key in found["dense"]} == found["dense"]

  def test_prunefl(self, paid):
    found = paid("prunefl")
    ratio = found["adjust_round_flops"] / found["dense"]["adjust_round_flops"]
    assert ratio == pytest.approx(0.3421, abs=1e-4)
    assert found["memory_bytes"] == pytest.approx(45.63e6, rel=0.005)
    # 4 bytes for each of 11,162,624 prunable weights.
    extra = found["adjust_upload_bytes"] - found["upload_bytes"]
    assert extra == 4 * 11_162_624

  def test_fedtiny(self, paid):
    found = paid("fedtiny")
    assert found["density"] == 111_626 / 11_162_624
    ratio = found["adjust_round_flops"] / found["dense"]["adjust_round_flops"]
    assert 0.0131 < ratio <= 0.01338
    assert 1.54e6 <= found["memory_bytes"] <= 1.63e6
    # floor(0.1 / 0.01 + 0.5) = 10 candidates of 446,504 bytes of values each.
    assert found["selection_download_bytes"] > 10 * 446_504
    # 11,338 dense parameters, 4,800 channels with two statistics, weight, metrics.
    assert found["upload_bytes"] == 4 * (111_626 + 11_338 + 2 * 4_800) + 16

  def test_fedtiny_saves_what_the_paper_says(self, paid):
    ours, theirs = paid("fedtiny"), paid("prunefl")
    assert ours["adjust_round_flops"] <= (1 - 0.9591) * theirs["adjust_round_flops"]
    assert ours["memory_bytes"] <= (1 - 0.9401) * theirs["memory_bytes"]

  def test_the_density_of_a_dense_method_is_ignored(self, paid, capsys):
    assert _figures(capsys, "--model=resnet18", "--strategy=fedavg") == paid("fedavg")


@pytest.mark.parametrize("strategy", ["small_dense", "federated_pruning"])
def test_smaller_models_stand_beside_the_full_one(strategy, capsys):
  arguments = ("--model=digits_cnn", "--target_density=0.25")
  full = _figures(capsys, *arguments, "--strategy=fedavg")
  found = _figures(capsys, *arguments, f"--strategy={strategy}")
  assert found["strategy"] == strategy
  assert found["width"] == 1.0
  assert found["dense"] == {key: full[key] for key in found["dense"]}
  assert found["parameters"] < found["dense"]["parameters"] == 37_498
  assert found["density_all_parameters"] == found["parameters"] / 37_498
  assert 0.24 < found["density"] < 0.26
  assert found["stored_layers"] == {"dense": 5, "bitmap": 0, "coo": 0, "csr": 0}
  assert found["index_bytes"] == found["buffer_bytes"] == 0


class TestFlags:
  def test_samples_and_epochs_multiply_the_rounds_arithmetic(self, capsys):
    once = _figures(capsys, "--local_samples=7", "--local_epochs=1")
    many = _figures(capsys, "--local_samples=70", "--local_epochs=3")
    for key in ("forward_flops", "memory_bytes", "upload_bytes"):
      assert many[key] == once[key]
    flops = "training_flops_per_round"
    assert many[flops] == pytest.approx(30 * once[flops])

  def test_the_batch_holds_the_activations(self, capsys):
    one = _figures(capsys, "--batch_size=1")["activation_bytes"]
    assert _figures(capsys, "--batch_size=20")["activation_bytes"] == 20 * one

  def test_classes_and_shape(self, capsys):
    usual = _figures(capsys, "--model=digits_cnn")
    assert usual["input_shape"] == [8, 8, 1]
    assert usual["num_classes"] == 10
    found = _figures(capsys, "--num_classes=12", "--input_shape=16,16,3")
    assert found["input_shape"] == [16, 16, 3]
    assert found["num_classes"] == 12
    # Two classes of 64 weights and a bias; a stem of 3*3 for 2 more channels to 16.
    assert found["parameters"] == usual["parameters"] + 2 * 65 + 2 * 9 * 16

  def test_smaller_blocks_need_smaller_buffers(self, capsys):
    buffers = [
      _figures(capsys, f"--granularity={name}")["buffer_bytes"]
      for name in ("layer", "block", "entire")
    ]
    assert buffers == sorted(set(buffers))

  def test_only_1x1_kernels_are_pruned_for_xnnpack(self, capsys):
    arguments = ("--model=mobilenet_v1_sparse", "--width=0.25", "--target_density=0.1")
    usual = _figures(capsys, *arguments)
    found = _figures(capsys, *arguments, "--prune_for=xnnpack")
    assert sum(usual["stored_layers"].values()) == 14
    assert sum(found["stored_layers"].values()) == 13
    # The classifier's 256 · 2 weights are dense then: 460.8 more, and one of rounding.
    more = found["density_all_parameters"] - usual["density_all_parameters"]
    assert more * found["parameters"] == pytest.approx(461, abs=1)

  def test_groups_of_channels_need_fewer_indices(self, capsys):
    def sent(channel_block):
      found = _figures(
        capsys, "--model=digits_cnn", f"--channel_block={channel_block}",
        "--granularity=entire",
      )  # fmt: skip
      return found["adjust_upload_bytes"] - found["upload_bytes"], found["buffer_bytes"]

    (ones, buffer1), (pairs, buffer2), (fours, buffer4) = map(sent, (1, 2, 4))
    # 8 bytes a weight, 6 in pairs, 5 in fours; 10 classes have pairs at most, and each
    # layer's count is rounded up.
    assert pairs / ones == pytest.approx(6 / 8, rel=0.01)
    assert fours / ones == pytest.approx(5 / 8, rel=0.01)
    assert buffer1 > buffer2 > buffer4

  def test_without_events_nothing_is_sent_for_them(self, capsys):
    assert _figures(capsys, "--rounds=10")["adjust_upload_bytes"] == 0

  def test_a_runs_flagfile_is_enough(self, capsys):
    preset = support.ROOT / "pipelines" / "presets" / "digits.flags"
    found = _figures(capsys, f"--flagfile={preset}")
    assert found["model"] == "digits_cnn"
    assert found["adjust_upload_bytes"] > found["upload_bytes"]

  def test_help_lists_flags_of_runs_and_its_own(self):
    listed = [name for group in cost._GROUPS.values() for name in group]
    assert len(set(listed)) == len(listed)
    assert all(name in flags.FLAGS for name in listed)
    others = set(run_flags.names()) - set(listed)
    assert {"output_dir", "dataset", "client_optimizer", "seed"} <= others


def test_text_shows_every_figure_beside_dense(capsys):
  assert support.call("cost", cost.main, "--model=digits_cnn") == 0
  text = capsys.readouterr().out
  found = _figures(capsys, "--model=digits_cnn")
  rows = {
    cells[1].strip(): [cell.strip() for cell in cells[2:5]]
    for cells in (line.split("│") for line in text.splitlines())
    if len(cells) == 6
  }
  assert len(rows) == len(cost._ROWS)
  memory, dense = found["memory_bytes"], found["dense"]["memory_bytes"]
  wanted = [f"{memory:,}", f"{dense:,}", f"{100 * memory / dense:.3f} %"]
  assert rows["memory at its peak, bytes"] == wanted
  # There is nothing to compare with: dense training adjusts no mask.
  assert rows["upload, adjustment round, bytes"][1:] == ["0", "-"]
  assert "Layers by form of storage: bitmap 5" in text


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (
      ["--strategy=magic"],
      "--strategy must be one of fedavg, fedtiny, ... got 'magic'",
    ),
    (
      ["--strategy=small_dense", "--width=0.02", "--target_density=0.0001"],
      "--strategy=small_dense --target_density=0.0001: model 'digits_cnn' has",
    ),
    (
      ["--strategy=federated_pruning", "--model=my.keras", "--input_shape=8"],
      "your own one, --model=my.keras; choose a strategy of sparse masks",
    ),
    pytest.param(
      [
        "--strategy=federated_pruning",
        "--model=mobilenet_v1_sparse",
        "--width=0.1",
        "--prune_for=xnnpack",
      ],
      "--strategy=federated_pruning leaves the model dense",
      marks=pytest.mark.slow,
    ),
    (["--model=vgg99"], "--model"),
    (["--model=autoencoder", "--num_classes=10"], "--num_classes: model 'autoencoder'"),
    (["--model=mine.keras"], "--input_shape is missing"),
    (["--model=resnet8", "--input_shape=8,8"], "(8, 8)"),
    (["--model=vgg11_bn", "--input_shape=8,8,3"], "the smallest is (32, 32, 1)"),
    (["--input_shape=8,x,3"], "--input_shape must be whole numbers ... '8,x,3'"),
    (["--input_shape="], "--input_shape must be whole numbers"),
    (["--input_shape=0,8,3"], "--input_shape must hold 1 to 1000000000 values, got 0"),
    (
      ["--input_shape=100000,100000,3"],
      "values, got 30000000000 for (100000, 100000, 3)",
    ),
    (["--num_classes=0"], "--num_classes must be in [1, 1000000000], got 0"),
    (["--local_samples=0"], "--local_samples must be in [1, 1000000000], got 0"),
    (["--local_epochs=0"], "--local_epochs must be at least 1, got 0"),
    (["--target_density=1.4"], "--target_density must be in (0, 1], got 1.4"),
    (["--width=0"], "--width must be positive, got 0"),
    (["--granularity=atom"], "--granularity"),
    (["--channel_block=3"], "--channel_block must be one of 1, 2, 4, got 3"),
    (
      ["--model=resnet8", "--prune_for=xnnpack"],
      "--model=resnet8 would not run sparse",
    ),
    (
      ["--model=mobilenet_v1_sparse", "--prune_for=xnnpack", "--target_density=0.34"],
      "the largest density that works is 0.3333",
    ),
    (["--format=xml"], "--format"),
    (["--no_such_flag=1"], "no_such_flag"),
  ],
)
def test_bad_input_is_one_line(arguments, said, capsys):
  assert support.call("cost", cost.main, *arguments) == 2
  printed = capsys.readouterr()
  assert printed.out == ""
  assert printed.err.startswith("cost: ")
  assert printed.err.count("\n") == 1
  for part in said.split(" ... "):
    assert part in printed.err


def test_names_are_no_markup(tmp_path, monkeypatch, capsys):
  (tmp_path / "[").mkdir()
  monkeypatch.chdir(tmp_path)
  layers = tf.keras.layers
  tf.keras.Sequential(
    [layers.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(10)]
  ).save("[/b].keras")
  arguments = ("--model=[/b].keras", "--input_shape=8,8,1", "--num_classes=10")
  assert support.call("cost", cost.main, *arguments) == 0
  assert "fedtiny, [/b].keras at width 1" in capsys.readouterr().out


def test_in_a_process_of_its_own(tmp_path):
  ended = support.App(tmp_path, "cost", "--model=digits_cnn", "--format=json")
  assert ended.wait() == 0
  assert ended.stderr == ""
  assert json.loads(ended.stdout)["model"] == "digits_cnn"


def test_help_is_complete_and_light():
  ended = subprocess.run(
    [sys.executable, "-X", "importtime", "-m", "pipelines.cost", "--help"],
    cwd=support.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert "python -m pipelines.cost" in ended.stdout
  for name in (name for group in cost._GROUPS.values() for name in group):
    assert f"  --{name} " in ended.stdout
  assert "--output_dir" not in ended.stdout
  imported = {line.split("|")[-1].strip() for line in ended.stderr.splitlines()}
  assert "pipelines.apps.app" in imported
  roots = {module.split(".")[0] for module in imported}
  assert not roots & {"tensorflow", "tensorflow_federated", "keras", "numpy"}
