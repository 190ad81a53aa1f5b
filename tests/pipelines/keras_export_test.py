"""Any pruned Keras model to verified files, and one line for whatever is wrong."""

import io
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot

from pipelines import export, keras_export
from tests.pipelines import support
from tests.tflite_export import models
from tflite_export import targets

LAYERS = tf.keras.layers
FILES = [path.removeprefix("export/") for path in support.TFLITES]


def _save(model, path):
  model.save(path)
  return path


def _save_data(path, x, **more):
  np.savez(path, x=x, **more)
  return path


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory):
  """A pruned model with examples, labelled by itself, and the same without labels."""
  folder = tmp_path_factory.mktemp("keras")
  model, _ = models.trained(0.1)
  _save(model, folder / "net.keras")
  x = models.random_inputs(24)
  _save_data(folder / "d.npz", x, y=np.argmax(model(x).numpy(), axis=1))
  _save_data(folder / "unlabelled.npz", x)
  return folder


def _arguments(model, data, output, *more):
  return [
    f"--keras_model={model}", f"--representative_data={data}", f"--output_dir={output}",
    *more,
  ]  # fmt: skip


def _call(*arguments):
  return support.call("export", export.main, *map(str, arguments))


@pytest.fixture(name="exported", scope="module")
def fixture_exported(work):
  output = work / "out"
  assert _call(*_arguments(work / "net.keras", work / "d.npz", output)) == 0
  return output


def _report(output):
  return json.loads((output / "export.json").read_text())


def test_files_are_those_of_a_run_without_its_folder(exported):
  found = {str(path.relative_to(exported)) for path in exported.rglob("*.tflite")}
  assert found == set(FILES)
  assert {path.name for path in exported.iterdir()} == {"android", "mcu", "export.json"}
  assert (exported / "mcu" / "model_data.cc").is_file()
  assert (exported / "android" / "NetModel.kt").is_file()


def test_zeros_are_the_mask(exported):
  rows = {row["path"]: row for row in _report(exported)["artifacts"]}
  # stem 432, pointwise 256 twice, expand 512, head 128; a tenth each, rounded.
  assert rows["android/fp32_sparse.tflite"]["density"] == (43 + 26 + 26 + 51 + 13) / 1584
  assert sorted(rows) == sorted(FILES)


def test_labels_turn_accuracy_on(work, exported):
  rows = _report(exported)["artifacts"]
  assert {row["accuracy"] for row in rows if "fp" in row["format"]} == {1.0}
  output = work / "unlabelled"
  arguments = _arguments(work / "net.keras", work / "unlabelled.npz", output)
  assert _call(*arguments, "--targets=android") == 0
  assert {row["accuracy"] for row in _report(output)["artifacts"]} == {None}
  assert not (output / "mcu").exists()


def test_the_same_command_gives_the_same_bytes(work, exported):
  again = work / "again"
  assert _call(*_arguments(work / "net.keras", work / "d.npz", again)) == 0
  assert support.snapshot(again) == support.snapshot(exported)


def test_targets_exported_before_stay_in_the_report(work, exported, tmp_path):
  arguments = _arguments(work / "net.keras", work / "d.npz", tmp_path / "out")
  assert _call(*arguments, "--targets=mcu") == 0
  assert _call(*arguments, "--targets=android") == 0
  rows = _report(tmp_path / "out")["artifacts"]
  assert [row["path"] for row in rows] == sorted(FILES)


def test_labels_and_licence_reach_the_card(work, tmp_path):
  labels = tmp_path / "names.txt"
  labels.write_text("cat\ndog\nhen\ncow\n", encoding="utf-8")
  arguments = _arguments(work / "net.keras", work / "d.npz", tmp_path / "out")
  more = (f"--labels={labels}", "--model_licence=CC0-1.0", "--targets=android")
  assert _call(*arguments, *more) == 0
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


@pytest.mark.parametrize(
  ("build", "layers", "task"),
  [
    (_mixed, ["dilated", "end", "first", "grouped", "inside"], "classify"),
    (_signal, ["in", "out"], "reconstruct"),
    # Without any zero all layers count.
    (_dense, ["only"], "classify"),
  ],
)
def test_models_of_all_kinds(build, layers, task, tmp_path):
  model = build()
  _prune(model)
  assert sorted(keras_export.masks_of_zeros(model)) == layers
  x = np.random.default_rng(1).normal(size=(12, *model.inputs[0].shape[1:]))
  data = _save_data(tmp_path / "d.npz", x.astype(np.float32))
  path = _save(model, tmp_path / "m.keras")
  assert _call(*_arguments(path, data, tmp_path / "out", "--targets=android")) == 0
  report = _report(tmp_path / "out")
  assert report["task"] == task
  density = np.mean(
    np.concatenate([m.ravel() for m in keras_export.masks_of_zeros(model).values()])
  )
  row = next(r for r in report["artifacts"] if r["format"] == "fp32_sparse")
  assert row["density"] == pytest.approx(density)


def test_what_others_wrote_is_not_lost(work, tmp_path, capsys):
  output = tmp_path / "app"
  (output / "android" / "src").mkdir(parents=True)
  (output / "android" / "src" / "Main.kt").write_text("mine")
  before = support.snapshot(output)
  arguments = _arguments(work / "net.keras", work / "unlabelled.npz", output)
  assert _call(*arguments) == 2
  printed = capsys.readouterr().err
  assert "android/src/Main.kt was not written by an export" in printed
  assert printed.count("\n") == 1
  assert support.snapshot(output) == before
  # Beside an export of ours, too.
  assert _call(*arguments, "--targets=mcu") == 0
  (output / "mcu" / "main.c").write_text("mine")
  assert _call(*arguments, "--targets=mcu") == 2
  assert (output / "mcu" / "main.c").read_text() == "mine"


def _as_many_classes_as_inputs():
  inputs = LAYERS.Input((4,))
  return tf.keras.Model(inputs, LAYERS.Dense(4)(inputs))


@pytest.mark.parametrize(
  ("labels", "task"), [([0, 1, 2, 3] * 3, "classify"), ([0, 1] * 6, "reconstruct")]
)
def test_labels_tell_classes_from_a_reconstruction(tmp_path, labels, task):
  path = _save(_as_many_classes_as_inputs(), tmp_path / "m.keras")
  x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
  data = _save_data(tmp_path / "d.npz", x, y=np.array(labels))
  assert _call(*_arguments(path, data, tmp_path / "out", "--targets=android")) == 0
  assert _report(tmp_path / "out")["task"] == task


def test_the_file_that_decides_is_the_file_that_is_shipped(tmp_path):
  """An outlier among the examples ruins the ranges of all of them, and is judged so."""
  model = _dense()
  model.get_layer("only").set_weights([np.eye(6, 3), np.zeros(3)])
  generator = np.random.default_rng(0)
  x = generator.normal(size=(400, 6)).astype(np.float32)
  y = np.argmax(x[:, :3], axis=1)
  x[0, :3] = 400.0
  data = _save_data(tmp_path / "d.npz", x, y=y)
  path = _save(model, tmp_path / "m.keras")
  assert _call(*_arguments(path, data, tmp_path / "out", "--targets=android")) == 0
  found = _report(tmp_path / "out")["quantisation"]
  assert found["float"] - found["post_training"] > 0.05
  assert found["quantisation_aware"] is not None


# ------------------------------------------------------------------ bad input


def _refused(arguments, said, output, capsys):
  """Checks for one line, exit code 2, and nothing written."""
  capsys.readouterr()
  assert _call(*arguments) == 2
  printed = capsys.readouterr()
  assert printed.out == ""
  assert printed.err.startswith("export: ")
  assert printed.err.count("\n") == 1, printed.err
  assert said in printed.err
  assert not output.exists() or not list(output.iterdir())


@pytest.mark.parametrize(
  ("name", "x", "more", "said"),
  [
    ("shape", np.zeros((4, 8, 8, 3), np.float32), {}, "needed is float32 [N, 16, 16, 3]"),
    ("none", np.zeros((0, 16, 16, 3), np.float32), {}, "with N > 0"),
    ("bytes", np.zeros((4, 16, 16, 3), np.uint8), {}, "`x` is uint8"),
    ("nan", np.full((4, 16, 16, 3), np.nan, np.float32), {}, "NaN or infinite"),
    ("few", models.random_inputs(4), {"y": np.zeros(3, int)}, "int64 [3]; needed is int [4]"),
    ("large", models.random_inputs(4), {"y": np.array([0, 1, 2, 4])}, "from 0 to 3"),
    ("real", models.random_inputs(4), {"y": np.zeros(4)}, "needed is int [4]"),
  ],
)
def test_data_that_do_not_fit(work, tmp_path, capsys, name, x, more, said):
  data = _save_data(tmp_path / f"{name}.npz", x, **more)
  output = tmp_path / "out"
  _refused(_arguments(work / "net.keras", data, output), said, output, capsys)


@pytest.mark.parametrize(
  ("content", "said"),
  [
    (None, "not found"),
    (b"", "cannot be read"),
    (b"PK\x03\x04 truncated", "cannot be read"),
    (b"\x93NUMPY\x01\x00", "cannot be read"),
  ],
)
def test_data_that_are_none(work, tmp_path, capsys, content, said):
  data, output = tmp_path / "d.npz", tmp_path / "out"
  if content is not None:
    data.write_bytes(content)
  _refused(_arguments(work / "net.keras", data, output), said, output, capsys)


def test_pickled_data_are_refused(work, tmp_path, capsys):
  data, output = tmp_path / "d.npz", tmp_path / "out"
  np.savez(data, x=np.array([{}, None], object))
  _refused(_arguments(work / "net.keras", data, output), "pickle", output, capsys)


def test_a_bare_array_is_no_archive(work, tmp_path, capsys):
  data, output = tmp_path / "d.npz", tmp_path / "out"
  buffer = io.BytesIO()
  np.save(buffer, models.random_inputs(2))
  data.write_bytes(buffer.getvalue())
  _refused(_arguments(work / "net.keras", data, output), "savez", output, capsys)


def _with_lambda():
  inputs = LAYERS.Input((16, 16, 3))
  x = LAYERS.Lambda(lambda x: x * 2, name="twice")(inputs)
  return tf.keras.Model(inputs, LAYERS.Dense(4)(LAYERS.Flatten()(x)))


def _wrapped():
  inputs = LAYERS.Input((16, 16, 3))
  model = tf.keras.Model(inputs, LAYERS.Dense(4)(LAYERS.Flatten()(inputs)))
  return tfmot.sparsity.keras.prune_low_magnitude(model)


def _recurrent():
  inputs = LAYERS.Input((16, 16, 3))
  x = LAYERS.Reshape((16, 48))(inputs)
  x = LAYERS.Bidirectional(LAYERS.GRU(4, name="loop"))(x)
  return tf.keras.Model(inputs, LAYERS.Dense(4)(x))


def _of_gelu():
  inputs = LAYERS.Input((16, 16, 3))
  x = LAYERS.Conv2D(4, 1, activation="gelu")(inputs)
  return tf.keras.Model(inputs, LAYERS.Dense(4)(LAYERS.Flatten()(x)))


def _of_unknown_size():
  inputs = LAYERS.Input((None, None, 3))
  x = LAYERS.GlobalAveragePooling2D()(LAYERS.Conv2D(4, 1)(inputs))
  return tf.keras.Model(inputs, x)


def _of_two_inputs():
  inputs = [LAYERS.Input((16, 16, 3)), LAYERS.Input((16, 16, 3))]
  return tf.keras.Model(inputs, LAYERS.Flatten()(LAYERS.Add()(inputs)))


def _of_words():
  inputs = LAYERS.Input((16,), dtype="int32")
  return tf.keras.Model(inputs, LAYERS.Flatten()(LAYERS.Embedding(5, 2)(inputs)))


def _of_nan():
  model, _ = models.trained(0.5)
  model.get_layer("head").bias.assign([np.nan] * 4)
  return model


def _of_pictures():
  inputs = LAYERS.Input((16, 16, 3))
  return tf.keras.Model(inputs, LAYERS.Conv2D(5, 1)(inputs))


@pytest.mark.parametrize(
  ("build", "said"),
  [
    (_with_lambda, "layer 'twice' (Lambda)"),
    (_wrapped, "tfmot.sparsity.keras.strip_pruning(model)"),
    (_recurrent, "(GRU) runs in a loop"),
    (_of_unknown_size, "[?, ?, ?, 3]"),
    (_of_two_inputs, "2 inputs"),
    (_of_words, "is int32"),
    (_of_nan, "layer 'head' holds NaN"),
    (_of_pictures, "output [None, 16, 16, 5]"),
  ],
)
def test_models_that_cannot_be_exported(work, tmp_path, capsys, build, said):
  path = _save(build(), tmp_path / "m.keras")
  output = tmp_path / "out"
  _refused(_arguments(path, work / "d.npz", output), said, output, capsys)


def test_an_operator_that_one_target_lacks_is_bad_input(work, tmp_path, capsys):
  path, output = _save(_of_gelu(), tmp_path / "m.keras"), tmp_path / "out"
  capsys.readouterr()
  assert _call(*_arguments(path, work / "d.npz", output)) == 2
  assert "TFLM has no kernel for operator GELU" in capsys.readouterr().err
  assert not output.exists()


@pytest.mark.parametrize(
  ("name", "content", "said"),
  [
    ("m.keras", None, "not found"),
    ("m.keras", b"no archive", "truncated or no Keras file"),
    ("m.h5", b"", "only the Keras format"),
    ("folder", None, "only the Keras format"),
  ],
)
def test_files_that_are_no_model(work, tmp_path, capsys, name, content, said):
  path, output = tmp_path / name, tmp_path / "out"
  if content is not None:
    path.write_bytes(content)
  _refused(_arguments(path, work / "d.npz", output), said, output, capsys)


def test_a_truncated_model_is_refused(work, tmp_path, capsys):
  path, output = tmp_path / "m.keras", tmp_path / "out"
  path.write_bytes((work / "net.keras").read_bytes()[:-2000])
  _refused(_arguments(path, work / "d.npz", output), "m.keras", output, capsys)


@pytest.mark.parametrize(
  ("more", "said"),
  [
    (["--rounds=3"], "--rounds says how a run is trained"),
    (["--run_dir=runs/x"], "exclude each other"),
    (["--targets=ios"], "--targets must name"),
    (["--labels=/no/such.txt"], "/no/such.txt"),
    (["--task=reconstruct"], "--task"),
    (["--benchmark_runs=0"], "--benchmark_runs"),
  ],
)
def test_flags_that_do_not_fit(work, tmp_path, capsys, more, said):
  output = tmp_path / "out"
  arguments = _arguments(work / "net.keras", work / "d.npz", output)
  _refused([*arguments, *more], said, output, capsys)


def test_representative_data_are_asked_for(work, tmp_path, capsys):
  output = tmp_path / "out"
  arguments = [f"--keras_model={work / 'net.keras'}", f"--output_dir={output}"]
  said = "--representative_data is missing: name a .npz file with `x`, float32 [N, 16,"
  _refused(arguments, said, output, capsys)


def test_a_folder_is_asked_for(work, capsys):
  arguments = [
    f"--keras_model={work / 'net.keras'}",
    f"--representative_data={work / 'd.npz'}",
  ]
  _refused(arguments, "--output_dir is missing", pathlib.Path("/nonexistent"), capsys)


def test_a_runs_folder_is_not_written_to(work, tmp_path, capsys):
  (tmp_path / "run.flags").write_text("")
  assert _call(*_arguments(work / "net.keras", work / "d.npz", tmp_path)) == 2
  assert "holds a run" in capsys.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == ["run.flags"]


@pytest.mark.parametrize("flag", ["--labels=x", "--task=classify"])
def test_flags_of_a_keras_model_need_one(flag, capsys):
  assert _call("--run_dir=nowhere", flag) == 2
  assert "goes with --keras_model" in capsys.readouterr().err


def test_the_wrong_number_of_labels_is_refused(work, tmp_path, capsys):
  labels, output = tmp_path / "names.txt", tmp_path / "out"
  labels.write_text("a\nb\n")
  arguments = _arguments(work / "net.keras", work / "d.npz", output)
  said = "has 2 lines, the model 4 outputs"
  _refused([*arguments, f"--labels={labels}"], said, output, capsys)


def test_a_failed_target_ends_with_3_and_the_others_stay(
  work, tmp_path, capsys, monkeypatch
):
  def fail(request):
    raise keras_export.export_stage.VerificationError("3 of 9")

  monkeypatch.setitem(targets.TARGETS, "android", fail)
  output = tmp_path / "out"
  assert _call(*_arguments(work / "net.keras", work / "d.npz", output)) == 3
  assert capsys.readouterr().err.splitlines()[-1] == (
    "export: verification failed: android: 3 of 9"
  )
  assert not (output / "android").exists()
  assert {row["target"] for row in _report(output)["artifacts"]} == {"mcu"}
