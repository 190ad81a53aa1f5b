"""Any pruned Keras model to verified files."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf

from pipelines.exports import export_stage, keras_export
from tests.fedtiny_tff.support import floats
from tests.pipelines import support
from tests.pipelines.exports import keras_files
from tests.tflite_export import models
from tflite_export import given_model, targets

LAYERS = tf.keras.layers
FILES = [path.removeprefix("export/") for path in support.TFLITES]


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory):
  return keras_files.make_work(tmp_path_factory.mktemp("keras"))


@pytest.fixture(name="exported", scope="module")
def fixture_exported(work):
  output = work / "out"
  assert (
    keras_files.call(*keras_files.arguments(work / "net.keras", work / "d.npz", output))
    == 0
  )
  return output


def _report(output):
  return json.loads((output / "export.json").read_text())


@pytest.mark.parametrize("content", ["", "3", pytest.param("[" * 100_000, id="deep")])
def test_a_damaged_report_of_before_tells_nothing(tmp_path, content):
  (tmp_path / "export.json").write_text(content)
  assert keras_export._read_report(tmp_path) == {}


def test_files_are_those_of_a_run_without_its_folder(exported):
  found = {str(path.relative_to(exported)) for path in exported.rglob("*.tflite")}
  assert found == set(FILES)
  assert {path.name for path in exported.iterdir()} == {"android", "mcu", "export.json"}
  assert (exported / "mcu" / "model_data.cc").is_file()
  assert (exported / "android" / "NetModel.kt").is_file()


def test_zeros_are_the_mask(exported):
  rows = {row["path"]: row for row in _report(exported)["artifacts"]}
  # stem 432, pointwise 256 twice, expand 512, head 128; a tenth each, rounded.
  assert (
    rows["android/fp32_sparse.tflite"]["density"] == (43 + 26 + 26 + 51 + 13) / 1584
  )
  assert sorted(rows) == sorted(FILES)


def test_labels_turn_accuracy_on(work, exported):
  rows = _report(exported)["artifacts"]
  assert {row["accuracy"] for row in rows if "fp" in row["format"]} == {1.0}
  output = work / "unlabelled"
  arguments = keras_files.arguments(work / "net.keras", work / "unlabelled.npz", output)
  assert keras_files.call(*arguments, "--targets=android") == 0
  assert {row["accuracy"] for row in _report(output)["artifacts"]} == {None}
  assert not (output / "mcu").exists()


def test_the_same_command_gives_the_same_bytes(work, exported):
  again = work / "again"
  assert (
    keras_files.call(*keras_files.arguments(work / "net.keras", work / "d.npz", again))
    == 0
  )
  assert support.snapshot(again) == support.snapshot(exported)


# The names of the files are told, android/ is there, mcu/ too but not the report.
_KILLS = (1, 2, 3)


@pytest.mark.parametrize(
  ("before", "kills"),
  [
    pytest.param((), _KILLS[1:2], id="new"),
    pytest.param((), _KILLS, id="each", marks=pytest.mark.slow),
    pytest.param(("--targets=mcu",), _KILLS, id="extended", marks=pytest.mark.slow),
  ],
)
def test_the_same_command_completes_what_was_killed(
  work, exported, tmp_path, before, kills
):
  output = tmp_path / "out"
  arguments = keras_files.arguments(work / "net.keras", work / "d.npz", output)
  assert not before or keras_files.call(*arguments, *before) == 0
  for steps in kills:
    module = "tests.pipelines.exports.killed_export"
    app = support.App(tmp_path, module, str(steps), *map(str, arguments))
    assert app.wait() == -signal.SIGKILL, app.stderr
  assert (output / {2: "android", 3: "mcu"}[kills[-1]]).exists()
  assert keras_files.call(*arguments) == 0
  assert support.snapshot(output) == support.snapshot(exported)


def test_targets_exported_before_stay_in_the_report(work, exported, tmp_path, capsys):
  arguments = keras_files.arguments(
    work / "net.keras", work / "d.npz", tmp_path / "out"
  )
  assert keras_files.call(*arguments, "--targets=mcu") == 0
  capsys.readouterr()
  assert keras_files.call(*arguments, "--targets=android") == 0
  rows = _report(tmp_path / "out")["artifacts"]
  assert [row["path"] for row in rows] == sorted(FILES)
  printed = capsys.readouterr().out
  assert "int8_decode" not in printed
  assert printed.endswith("Exported earlier, and not shown: mcu\n")
  # As the card says.
  (shipped,) = (row["path"] for row in rows if row["recommended"])
  assert f"Ship: {tmp_path}/out/{shipped} (accuracy " in printed
  card = (tmp_path / "out/android/model_card.md").read_text()
  assert f"\nShip `{shipped.partition('/')[2]}` (" in card


def test_labels_and_licence_reach_the_card(work, tmp_path):
  labels = tmp_path / "names.txt"
  labels.write_text("cat\ndog\nhen\ncow\n", encoding="utf-8")
  arguments = keras_files.arguments(
    work / "net.keras", work / "d.npz", tmp_path / "out"
  )
  more = (f"--labels={labels}", "--model_licence=CC0-1.0", "--targets=android")
  assert keras_files.call(*arguments, *more) == 0
  folder = tmp_path / "out" / "android"
  assert (folder / "labels.txt").read_text() == labels.read_text()
  assert "CC0-1.0" in (folder / "model_card.md").read_text()


def _mixed():
  """Nested, grouped, separable and dilated layers, swish, and a softmax at the end."""
  inner_inputs = LAYERS.Input((8, 8, 8))
  inner = LAYERS.Conv2D(8, 3, padding="same", activation="swish", name="inside")
  nested = tf.keras.Model(inner_inputs, inner(inner_inputs), name="nested")
  inputs = LAYERS.Input((16, 16, 3))
  x = LAYERS.Conv2D(8, 3, strides=2, padding="same", name="first")(inputs)
  x = nested(x)
  x = LAYERS.SeparableConv2D(16, 3, name="separable")(x)
  x = LAYERS.Conv2D(16, 1, groups=2, name="grouped")(x)
  x = LAYERS.Conv2D(16, 3, dilation_rate=2, padding="same", name="dilated")(x)
  x = LAYERS.Flatten()(x)
  return tf.keras.Model(inputs, LAYERS.Dense(4, activation="softmax", name="end")(x))


def _signal():
  """A Conv1D network that keeps its shape: gives a signal again."""
  inputs = LAYERS.Input((32, 2))
  x = LAYERS.Conv1D(16, 5, padding="same", activation="relu", name="in")(inputs)
  return tf.keras.Model(inputs, LAYERS.Conv1D(2, 5, padding="same", name="out")(x))


def _dense():
  model = tf.keras.Sequential([LAYERS.Input((6,)), LAYERS.Dense(3, name="only")])
  return model


def _prune(model):
  generator = np.random.default_rng(0)
  for layer in model._flatten_layers(include_self=False):
    if hasattr(layer, "kernel") and layer.name != "only":
      kernel = layer.kernel.numpy()
      layer.kernel.assign(kernel * (generator.uniform(size=kernel.shape) < 0.2))


def test_a_channel_without_weights_costs_no_accuracy_in_int8(tmp_path):
  """The batch norm behind it multiplies by 300 what int8 makes of a tiny constant."""
  layers = tf.keras.layers
  inputs = layers.Input((8, 8, 2))
  x = layers.Conv2D(4, 1, use_bias=False, name="conv")(inputs)
  x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="norm")(x))
  x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
  x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, name="last")(x))
  x = layers.Dense(4, name="end")(layers.GlobalAveragePooling2D()(x))
  model = tf.keras.Model(inputs, x)
  models.randomise(model, 0)
  kernel = model.get_layer("conv").kernel
  kernel.assign(kernel.numpy() * floats([1, 1, 1, 0]))
  norm = model.get_layer("norm")
  norm.moving_mean.assign([0.0] * 4)
  norm.moving_variance.assign([1.0, 1.0, 1.0, 0.0])
  norm.beta.assign([0.0, 0.0, 0.0, 0.008])
  # Inside the image its nine values are all there is to it.
  sums = model.get_layer("depthwise").depthwise_kernel.numpy()[:, :, 3].sum()
  last = model.get_layer("last")
  last.moving_mean.assign([0.0, 0.0, 0.0, 0.008 * sums])
  last.moving_variance.assign([1.0, 1.0, 1.0, 0.0])
  x = np.random.default_rng(1).normal(size=(400, 8, 8, 2)).astype(np.float32)
  outputs = model(x).numpy()
  model.get_layer("end").bias.assign(model.get_layer("end").bias - outputs.mean(axis=0))
  y = np.argmax(model(x).numpy(), axis=1)
  assert len(set(y)) > 1
  path = keras_files.save(model, tmp_path / "m.keras")
  data = keras_files.save_data(tmp_path / "d.npz", x, y=y)
  arguments = keras_files.arguments(path, data, tmp_path / "out", "--targets=mcu")
  assert keras_files.call(*arguments, "--quantisation_aware=never") == 0
  rows = _report(tmp_path / "out")["artifacts"]
  # Every second answer is wrong if channels are left as they are.
  assert min(row["accuracy"] for row in rows) > 0.8


@pytest.mark.parametrize(
  ("build", "layers", "task"),
  [
    (_mixed, ["dilated", "end", "first", "grouped", "inside"], "classify"),
    (_signal, ["in", "out"], "reconstruct"),
    # Without any zero all layers count.
    (_dense, ["only"], "classify"),
  ],
)
def test_models_of_all_kinds(build, layers, task, tmp_path, capsys):
  model = build()
  _prune(model)
  assert sorted(given_model.masks_of_zeros(model)) == layers
  x = np.random.default_rng(1).normal(size=(12, *model.inputs[0].shape[1:]))
  data = keras_files.save_data(tmp_path / "d.npz", x.astype(np.float32))
  path = keras_files.save(model, tmp_path / "m.keras")
  assert (
    keras_files.call(
      *keras_files.arguments(path, data, tmp_path / "out", "--targets=android")
    )
    == 0
  )
  report = _report(tmp_path / "out")
  assert report["task"] == task
  density = np.mean(
    np.concatenate([m.ravel() for m in given_model.masks_of_zeros(model).values()])
  )
  row = next(r for r in report["artifacts"] if r["format"] == "fp32_sparse")
  assert row["density"] == pytest.approx(density)
  card = (tmp_path / "out/android/model_card.md").read_text()
  is_pruned = density < 1
  warned = f"--keras_model={path}: no layer has zeros among its weights"
  assert (warned in capsys.readouterr().err) != is_pruned
  assert ("**Pruning.** Not pruned" in card) != is_pruned
  assert ("**Pruning.** Pruned before it was exported" in card) == is_pruned
  kotlin = (tmp_path / "out/android/MModel.kt").read_text()
  name = {_mixed: "probabilities", _signal: "reconstruction", _dense: "logits"}[build]
  assert f'OUTPUT_NAME = "{name}"' in kotlin


def test_what_others_wrote_is_not_lost(work, tmp_path, capsys):
  output = tmp_path / "app"
  (output / "android" / "src").mkdir(parents=True)
  (output / "android" / "src" / "Main.kt").write_text("mine")
  before = support.snapshot(output)
  arguments = keras_files.arguments(work / "net.keras", work / "unlabelled.npz", output)
  assert keras_files.call(*arguments) == 2
  printed = capsys.readouterr().err
  assert "android/src/Main.kt was not written by an export" in printed
  assert printed.count("\n") == 1
  assert support.snapshot(output) == before
  # Beside an export of ours, too.
  assert keras_files.call(*arguments, "--targets=mcu") == 0
  (output / "mcu" / "main.c").write_text("mine")
  assert keras_files.call(*arguments, "--targets=mcu") == 2
  assert (output / "mcu" / "main.c").read_text() == "mine"
  assert keras_files.call(*arguments, "--targets=android") == 2
  assert (output / "android" / "src" / "Main.kt").read_text() == "mine"


def test_files_of_another_model_are_not_replaced(work, tmp_path, capsys):
  output, other = tmp_path / "out", tmp_path / "other.keras"
  other.write_bytes((work / "net.keras").read_bytes())
  first = keras_files.arguments(work / "net.keras", work / "unlabelled.npz", output)
  assert keras_files.call(*first, "--targets=mcu") == 0
  before = support.snapshot(output)
  second = keras_files.arguments(other, work / "unlabelled.npz", output)
  capsys.readouterr()
  for target in ("mcu", "android"):
    assert keras_files.call(*second, f"--targets={target}") == 2
    printed = capsys.readouterr().err
    assert f"--output_dir={output}: holds files of net.keras" in printed
    assert "name another folder" in printed
  assert support.snapshot(output) == before


def _as_many_classes_as_inputs():
  inputs = LAYERS.Input((4,))
  return tf.keras.Model(inputs, LAYERS.Dense(4)(inputs))


@pytest.mark.parametrize(
  ("labels", "task"), [([0, 1, 2, 3] * 3, "classify"), ([0, 1] * 6, "reconstruct")]
)
def test_labels_tell_classes_from_a_reconstruction(tmp_path, labels, task):
  path = keras_files.save(_as_many_classes_as_inputs(), tmp_path / "m.keras")
  x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
  data = keras_files.save_data(tmp_path / "d.npz", x, y=np.array(labels))
  assert (
    keras_files.call(
      *keras_files.arguments(path, data, tmp_path / "out", "--targets=android")
    )
    == 0
  )
  assert _report(tmp_path / "out")["task"] == task


def test_the_file_that_decides_is_the_file_that_is_shipped(tmp_path):
  """An outlier among the examples ruins the ranges of all of them, and is judged so."""
  model = _dense()
  model.get_layer("only").set_weights([np.eye(6, 3), np.zeros(3)])
  generator = np.random.default_rng(0)
  x = generator.normal(size=(400, 6)).astype(np.float32)
  y = np.argmax(x[:, :3], axis=1)
  x[0, :3] = 400.0
  data = keras_files.save_data(tmp_path / "d.npz", x, y=y)
  path = keras_files.save(model, tmp_path / "m.keras")
  assert (
    keras_files.call(
      *keras_files.arguments(path, data, tmp_path / "out", "--targets=android")
    )
    == 0
  )
  found = _report(tmp_path / "out")["quantisation"]
  assert found["float"] - found["post_training"] > 0.05
  assert found["quantisation_aware"] is not None


def test_a_failed_target_ends_with_3_and_the_others_stay(
  work, tmp_path, capsys, monkeypatch
):
  def fail(request):
    raise export_stage.VerificationError("3 of 9")

  monkeypatch.setitem(targets.TARGETS, "android", fail)
  output = tmp_path / "out"
  assert (
    keras_files.call(*keras_files.arguments(work / "net.keras", work / "d.npz", output))
    == 3
  )
  assert capsys.readouterr().err.splitlines()[-1] == (
    "export: verification failed: android: 3 of 9"
  )
  assert not (output / "android").exists()
  assert {row["target"] for row in _report(output)["artifacts"]} == {"mcu"}
