"""A user's own model through the whole pipeline, started, broken off and continued."""

import json
import signal
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipelines import evaluate, export, run
from pipelines.runs import model_files
from tests.pipelines import support

layers = tf.keras.layers
_FLAGS = {
  **support.TINY,
  "rounds": 2,
  "adjust_until_round": 2,
  "eval_every_rounds": 1,
  "pretrain_epochs": 0,
  "pool_size": 2,
  "target_density": 0.4,
  "dense_baseline": "false",
  "targets": "android,mcu",
}
_FILES = support.TFLITES
_ENTRY_POINT = """
import tensorflow as tf

def net(input_shape, num_classes):
  layers = tf.keras.layers
  inputs = layers.Input(input_shape)
  x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(inputs)
  y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
  x = layers.Flatten()(layers.Add()([x, y]))
  x = layers.Dropout(0.2)(layers.Dense(16, activation="relu")(x))
  return tf.keras.Model(inputs, layers.Dense(num_classes, activation="softmax")(x))
"""


def _sequential(filters=6):
  return tf.keras.Sequential(
    [
      layers.Input((8, 8, 1)),
      layers.Conv2D(4, 3, strides=2, activation="relu"),
      layers.Conv2D(filters, 3, use_bias=False),
      layers.BatchNormalization(scale=False),
      layers.ReLU(),
      layers.Flatten(),
      layers.Dense(10),
    ]
  )


@pytest.fixture(name="place", scope="module")
def fixture_place(tmp_path_factory):
  """A current directory with a model file and a module."""
  place = tmp_path_factory.mktemp("own")
  _sequential().save(place / "net.keras")
  (place / "own_nets_for_the_run.py").write_text(_ENTRY_POINT)
  support.write_flagfile(place / "tiny.flags", _FLAGS)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(place)
    patch.setattr(sys, "path", [*sys.path])
    yield place


@pytest.fixture(
  name="made", scope="module",
  params=["net.keras", "own_nets_for_the_run:net"], ids=["file", "entry_point"],
)  # fmt: skip
def fixture_made(place, request):
  """A finished run."""
  path = place / request.param.replace(":", "_").replace(".", "_")
  arguments = ["--flagfile=tiny.flags", f"--model={request.param}"]
  assert support.call("run", run.main, *arguments, f"--output_dir={path}") == 0
  return path, arguments


def test_a_run_ends_with_verified_files(made):
  path, arguments = made
  report = json.loads((path / "report.json").read_text())
  assert f"--model={report['run']['model']}" == arguments[1]
  assert [row["path"] for row in report["artifacts"]] == _FILES
  assert report["density"] == pytest.approx(0.4, abs=0.01)
  assert len(report["events"]) == 1
  agreement = {row["format"]: row["argmax_agreement"] for row in report["artifacts"]}
  assert agreement["fp32_dense"] == agreement["fp32_sparse"] == 1.0


def test_evaluation_and_export_need_the_run_only(made, tmp_path, monkeypatch, capsys):
  path, _ = made
  monkeypatch.chdir(tmp_path)
  before = {name: (path / name).read_bytes() for name in _FILES}
  assert support.call("export", export.main, f"--run_dir={path}") == 0
  assert {name: (path / name).read_bytes() for name in _FILES} == before
  capsys.readouterr()
  arguments = [f"--run_dir={path}", "--format=json"]
  assert support.call("evaluate", evaluate.main, *arguments) == 0
  figures = json.loads(capsys.readouterr().out)
  report = json.loads((path / "report.json").read_text())
  assert figures["accuracy"] == report["accuracy"]["sparse"]


def test_a_finished_run_says_so_again(made, capsys):
  path, arguments = made
  assert support.call("run", run.main, *arguments, f"--output_dir={path}") == 0
  assert "model/model.keras" in capsys.readouterr().out


@pytest.mark.slow
# Not the entry point: its dropout does not repeat.
@pytest.mark.parametrize("made", ["net.keras"], indirect=True)
def test_a_broken_off_run_goes_on_and_ends_the_same(made, place, tmp_path):
  path, _ = made
  other = tmp_path / "other"
  model = f"--model={place / 'net.keras'}"
  flags = [f"--flagfile={place / 'tiny.flags'}", model, f"--output_dir={other}"]
  first = support.App(tmp_path, "run", *flags)
  state = other / "state" / "sparse" / "round_000001.state"
  assert first.signal_when(state, signal.SIGTERM) == 143
  second = support.App(tmp_path, "run", *flags)
  assert second.wait() == 0, second.stderr
  for name in _FILES:
    assert (other / name).read_bytes() == (path / name).read_bytes()


def test_the_file_is_where_training_starts(place, capsys):
  # A rate next to nothing: what comes out is what went in, pruned.
  path = place / "frozen"
  arguments = ["--flagfile=tiny.flags", "--model=net.keras", "--targets=android"]
  arguments += [
    "--client_learning_rate=1e-12",
    "--target_density=1",
    "--strategy=fedavg",
  ]
  assert support.call("run", run.main, *arguments, f"--output_dir={path}") == 0
  final, _ = model_files.load(path / "model")
  start = tf.keras.models.load_model(place / "net.keras")
  for layer in start.layers:
    if not isinstance(layer, tf.keras.layers.BatchNormalization):
      for before, after in zip(
        layer.get_weights(), final.get_layer(layer.name).get_weights(), strict=True
      ):
        np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.slow
def test_another_model_under_the_same_name_is_refused(place, tmp_path, capsys):
  path = tmp_path / "changed.keras"
  _sequential().save(path)
  arguments = [
    "--flagfile=tiny.flags",
    f"--model={path}",
    f"--output_dir={tmp_path}/run",
  ]
  assert support.call("run", run.main, *arguments) == 0
  (tmp_path / "run" / "report.json").unlink()
  _sequential(filters=7).save(path)
  capsys.readouterr()
  assert support.call("run", run.main, *arguments) == 2
  assert "is another model than the one this run began with" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--model=none.keras"], "model file none.keras: not found"),
    (["--model=net.h5"], "only the Keras format is read"),
    (["--model=net.keras", "--width=2"], "which is your own model: leave width out"),
    (["--model=net.keras", "--anomaly_classes=1"], "the model's task is classify"),
    (["--model=no_such_module:net"], "there is no module no_such_module, neither"),
    (["--model=own_nets_for_the_run:nets"], "has no function or class 'nets'"),
    (
      ["--model=resnet99"],
      "a file FILE.keras or PACKAGE.MODULE:FUNCTION, got 'resnet99'",
    ),
  ],
)
def test_what_cannot_be_used_ends_with_2(place, capsys, flags, said):
  before = support.snapshot(place).keys()
  arguments = ["--flagfile=tiny.flags", *flags, "--output_dir=new"]
  assert support.call("run", run.main, *arguments) == 2
  [line] = capsys.readouterr().err.splitlines()
  assert said in line
  assert {p for p in support.snapshot(place) if "__pycache__" not in p} <= set(before)
