"""What is wrong with a Keras model or its examples is one line, and writes nothing."""

import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from pipelines.exports import keras_input
from tests.pipelines.apps import damage_test
from tests.pipelines.exports import keras_files
from tests.tflite_export import models

LAYERS = tf.keras.layers


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory):
  return keras_files.make_work(tmp_path_factory.mktemp("keras"))


def _refused(arguments, said, output, capsys):
  """Checks for one line, exit code 2, and nothing written."""
  capsys.readouterr()
  assert keras_files.call(*arguments) == 2
  printed = capsys.readouterr()
  assert printed.out == ""
  assert printed.err.startswith("export: ")
  assert printed.err.count("\n") == 1, printed.err
  assert said in printed.err
  assert not output.exists() or not list(output.iterdir())


@pytest.mark.parametrize(
  ("name", "x", "more", "said"),
  [
    (
      "shape",
      np.zeros((4, 8, 8, 3), np.float32),
      {},
      "needed is float32 [N, 16, 16, 3]",
    ),
    ("none", np.zeros((0, 16, 16, 3), np.float32), {}, "with N > 0"),
    ("bytes", np.zeros((4, 16, 16, 3), np.uint8), {}, "`x` is uint8"),
    ("nan", np.full((4, 16, 16, 3), np.nan, np.float32), {}, "NaN or infinite"),
    (
      "few",
      models.random_inputs(4),
      {"y": np.zeros(3, int)},
      "int64 [3]; needed is int [4]",
    ),
    ("large", models.random_inputs(4), {"y": np.array([0, 1, 2, 4])}, "from 0 to 3"),
    ("real", models.random_inputs(4), {"y": np.zeros(4)}, "needed is int [4]"),
    ("words", models.random_inputs(4), {"y": np.array(["a"] * 4)}, "`y` is <U1 [4]"),
  ],
)
def test_data_that_do_not_fit(work, tmp_path, capsys, name, x, more, said):
  data = keras_files.save_data(tmp_path / f"{name}.npz", x, **more)
  output = tmp_path / "out"
  _refused(
    keras_files.arguments(work / "net.keras", data, output), said, output, capsys
  )


@pytest.mark.parametrize(
  ("content", "said"),
  [
    (None, "not found"),
    (b"", "cannot be read"),
    (b"PK\x03\x04 truncated", "cannot be read"),
    (b"\x93NUMPY\x01\x00", "cannot be read"),
    pytest.param(damage_test.flipped("x"), "cannot be read", id="flipped"),
    pytest.param(damage_test.encrypted("x"), "cannot be read", id="encrypted"),
    pytest.param(damage_test.of("x", b"text"), "`x` is |S4", id="text"),
  ],
)
def test_data_that_are_none(work, tmp_path, capsys, content, said):
  data, output = tmp_path / "d.npz", tmp_path / "out"
  if content is not None:
    data.write_bytes(content)
  _refused(
    keras_files.arguments(work / "net.keras", data, output), said, output, capsys
  )


def test_pickled_data_are_refused(work, tmp_path, capsys):
  data, output = tmp_path / "d.npz", tmp_path / "out"
  np.savez(data, x=np.array([{}, None], object))
  _refused(
    keras_files.arguments(work / "net.keras", data, output), "pickle", output, capsys
  )


def test_a_bare_array_is_no_archive(work, tmp_path, capsys):
  data, output = tmp_path / "d.npz", tmp_path / "out"
  buffer = io.BytesIO()
  np.save(buffer, models.random_inputs(2))
  data.write_bytes(buffer.getvalue())
  _refused(
    keras_files.arguments(work / "net.keras", data, output), "savez", output, capsys
  )


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
  path = keras_files.save(build(), tmp_path / "m.keras")
  output = tmp_path / "out"
  _refused(keras_files.arguments(path, work / "d.npz", output), said, output, capsys)


def test_an_operator_that_one_target_lacks_is_bad_input(work, tmp_path, capsys):
  path, output = keras_files.save(_of_gelu(), tmp_path / "m.keras"), tmp_path / "out"
  capsys.readouterr()
  assert keras_files.call(*keras_files.arguments(path, work / "d.npz", output)) == 2
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
  _refused(keras_files.arguments(path, work / "d.npz", output), said, output, capsys)


def test_a_truncated_model_is_refused(work, tmp_path, capsys):
  path, output = tmp_path / "m.keras", tmp_path / "out"
  path.write_bytes((work / "net.keras").read_bytes()[:-2000])
  _refused(
    keras_files.arguments(path, work / "d.npz", output), "m.keras", output, capsys
  )


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
  arguments = keras_files.arguments(work / "net.keras", work / "d.npz", output)
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
  assert (
    keras_files.call(
      *keras_files.arguments(work / "net.keras", work / "d.npz", tmp_path)
    )
    == 2
  )
  assert "holds a run" in capsys.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == ["run.flags"]


@pytest.mark.parametrize("flag", ["--labels=x", "--task=classify"])
def test_flags_of_a_keras_model_need_one(flag, capsys):
  assert keras_files.call("--run_dir=nowhere", flag) == 2
  assert "goes with --keras_model" in capsys.readouterr().err


def test_labels_are_a_line_each_of_any_editor(tmp_path):
  path, model = tmp_path / "names.txt", models.small_classifier()
  # Windows' Notepad, and characters that end lines for Python alone.
  text = "\ufeffcat\r\nsea\u2028gull\r\nice\x85\x0cbear\r\ndog"
  for end in ("", "\r\n"):
    path.write_text(text + end, encoding="utf-8", newline="")
    names = keras_input.read_class_names(path, model, tasks.CLASSIFY)
    assert names == ("cat", "sea\u2028gull", "ice\x85\x0cbear", "dog")
  for text, count in (("", 0), ("\n", 1), ("a\nb\nc\nd\n\n", 5)):
    path.write_text(text)
    with pytest.raises(InputError, match=f"has {count} lines, the model 4"):
      keras_input.read_class_names(path, model, tasks.CLASSIFY)


def test_the_wrong_number_of_labels_is_refused(work, tmp_path, capsys):
  labels, output = tmp_path / "names.txt", tmp_path / "out"
  labels.write_text("a\nb\n")
  arguments = keras_files.arguments(work / "net.keras", work / "d.npz", output)
  said = "has 2 lines, the model 4 outputs"
  _refused([*arguments, f"--labels={labels}"], said, output, capsys)
