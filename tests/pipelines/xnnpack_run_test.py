"""`--prune_for=xnnpack` from the command line to files that ARM runs by blocks."""

import json
import sys

import numpy as np
import pytest

from pipelines import run
from pipelines.runs import model_files
from tests.pipelines import support
from tflite_export.xnnpack import eligibility

# Grey digits to three channels, the stem, two 1×1 kernels of 16 × 32 and 32 × 64.
_ENTRY_POINT = """
import tensorflow as tf

def net(input_shape, num_classes):
  layers = tf.keras.layers
  image = layers.Input(input_shape)
  x = layers.ZeroPadding2D(1)(layers.Concatenate()([image, image, image]))
  x = layers.Conv2D(16, 3, strides=2, activation="relu", name="stem")(x)
  x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
  x = layers.Conv2D(32, 1, activation="relu", name="first")(x)
  x = layers.Conv2D(64, 1, activation="relu", name="second")(x)
  x = layers.GlobalAveragePooling2D()(x)
  return tf.keras.Model(image, layers.Dense(num_classes, name="head")(x))
"""
_FLAGS = {
  **support.TINY,
  "model": "own_nets_for_xnnpack:net",
  "prune_for": "xnnpack",
  "channel_block": 2,
  "target_density": 0.2,
  "dense_baseline": "false",
  "targets": "android",
}
_SPARSE = ("fp32_sparse", "fp16_sparse")


def _inspect(path, name):
  return eligibility.inspect((path / f"export/android/{name}.tflite").read_bytes())


def _assert_pairs(path, layers, channel_block):
  _, masks = model_files.load(path / "model")
  assert list(masks) == layers
  for mask in masks.values():
    groups = mask.reshape(-1, channel_block)
    assert (groups == groups[:, :1]).all()


@pytest.fixture(name="place", scope="module")
def fixture_place(tmp_path_factory):
  """A current directory with a module."""
  place = tmp_path_factory.mktemp("xnnpack")
  (place / "own_nets_for_xnnpack.py").write_text(_ENTRY_POINT)
  support.write_flagfile(place / "tiny.flags", _FLAGS)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(place)
    patch.setattr(sys, "path", [*sys.path])
    yield place


@pytest.fixture(name="made", scope="module")
def fixture_made(place):
  """A finished run of an own model."""
  arguments = ["--flagfile=tiny.flags", f"--output_dir={place / 'made'}"]
  assert support.call("run", run.main, *arguments) == 0
  return place / "made"


@pytest.mark.parametrize("name", _SPARSE)
def test_sparse_files_are_eligible_in_pairs(made, name):
  report = _inspect(made, name)
  assert report.eligible
  assert report.errors == ()
  assert report.sparse_macs == report.macs > 0
  assert [op.block for op in report.ops if op.macs] == [2, 2]
  # Density 0.2 of all 1×1 convolutions: nothing else is pruned, nor counted.
  assert report.zero_fraction_1x1 == pytest.approx(0.8, abs=0.01)


def test_dense_files_are_not(made):
  report = _inspect(made, "fp32_dense")
  assert not report.eligible
  assert all(op.block is None for op in report.ops)


def test_masks_are_of_whole_pairs_in_the_1x1_layers_alone(made):
  _assert_pairs(made, ["first", "second"], 2)
  report = json.loads((made / "report.json").read_text())
  assert [layer["name"] for layer in report["layers"]] == ["first", "second"]
  # floor(0.2 · 2,560 / 2) pairs.
  assert report["density"] == 2 * 256 / 2560
  # Masks were adjusted twice, by whole pairs, and the density stayed.
  moved = [
    n for e in report["events"] for x in e["layers"] for n in (x["dropped"], x["grown"])
  ]
  assert moved
  assert all(number % 2 == 0 for number in moved)
  assert any(moved)


def test_the_adjustments_upload_is_that_of_pairs(made):
  report = json.loads((made / "report.json").read_text())
  rows = (made / "metrics.csv").read_text().splitlines()
  column = rows[0].split(",").index("bytes_up_per_client")
  uploads = [int(row.split(",")[column]) for row in rows[1:]]
  paid = report["cost"]
  assert paid["upload_bytes"] == uploads[-1]
  assert paid["adjust_upload_bytes"] == max(uploads)
  # An index and two gradients for each pair that moves.
  first = report["events"][0]["layers"]
  pairs = sum(layer["grown"] for layer in first) // 2
  assert uploads[report["events"][0]["round"]] == uploads[-1] + 12 * pairs


def test_a_density_above_the_rule_leaves_nothing_behind(place, capsys):
  arguments = ["--flagfile=tiny.flags", "--target_density=0.34"]
  output = place / "refused"
  assert support.call("run", run.main, *arguments, f"--output_dir={output}") == 2
  said = capsys.readouterr().err
  assert "--target_density=0.34 leaves no more than two thirds zeros" in said
  assert said.count("\n") == 1
  assert not output.exists()


def test_a_graph_that_does_not_qualify_leaves_nothing_behind(place, capsys):
  output = place / "refused"
  arguments = ["--flagfile=tiny.flags", "--model=resnet8", f"--output_dir={output}"]
  assert support.call("run", run.main, *arguments) == 2
  said = capsys.readouterr().err
  assert "--model=resnet8 would not run sparse on ARM" in said
  assert said.endswith("mobilenet_v1_sparse, mobilenet_v2_sparse\n")
  assert not output.exists()


@pytest.mark.slow
def test_mobilenet_by_the_preset(tmp_path):
  preset = support.ROOT / "pipelines" / "presets" / "mobilenet_xnnpack.flags"
  output = tmp_path / "run"
  arguments = [f"--flagfile={preset}", f"--output_dir={output}", "--nodense_baseline"]
  assert support.call("run", run.main, *arguments) == 0
  _assert_pairs(output, [f"unit{n}_pointwise" for n in range(1, 14)], 2)
  for name in _SPARSE:
    report = _inspect(output, name)
    assert report.eligible
    assert {op.block for op in report.ops if op.macs} == {2}
  accuracy = json.loads((output / "report.json").read_text())["accuracy"]["sparse"]
  assert np.isfinite(accuracy)
  # Ten classes.
  assert accuracy > 0.5
