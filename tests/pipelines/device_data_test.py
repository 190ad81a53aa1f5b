"""A device's file holds what the simulated client is fed with, to the last bit."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import tasks
from fedtiny_tff.federated.runtimes import runtime
from pipelines import device_data
from pipelines.datasets import data_stage
from pipelines.devices import device_examples
from pipelines.runs.run_directory import RunDirectory
from tests.pipelines import support

_RECONSTRUCT = {"model": "autoencoder", "anomaly_classes": "0,9", "target_density": 0.3}


def call(folder, **values):
  given = {**support.TINY, "output_dir": folder, **values}
  arguments = [f"--{name}={value}" for name, value in given.items()]
  return support.call("device_data", device_data.main, *arguments)


def fed(store, first, count):
  """Returns what a TFF client decodes."""

  @tff.tensorflow.computation(tf.int64, tf.int64)
  def decode(first, count):
    return store.decode(store.read(first, count))

  return decode(np.int64(first), np.int64(count))


@pytest.mark.parametrize(
  ("values", "task"),
  [({}, tasks.CLASSIFY), (_RECONSTRUCT, tasks.RECONSTRUCT)],
  ids=["classify", "reconstruct"],
)
def test_files_hold_what_the_simulation_feeds(tmp_path, values, task):
  folder = tmp_path / "devices"
  assert call(folder, **values) == 0
  names = [device_examples.file_name(client) for client in range(4)]
  assert sorted(path.name for path in folder.iterdir()) == names
  lists = {
    name: str(values[name]).split(",") for name in ("anomaly_classes",) if values
  }
  made = support.make_config(**{**values, **lists})
  data = data_stage.write_data(support.plan_data(made, task), tmp_path / "data")
  # TFF's own context leaves its worker behind when Python ends.
  with runtime.LocalRuntime():
    for client, name in enumerate(names):
      found = device_examples.read(str(folder / name))
      _, first, training, held_out = data.references[client]
      parts = (first, training), (first + training, held_out)
      for part, place in zip(found, parts, strict=True):
        inputs, labels = fed(data.clients, *place)
        assert len(part) == place[1]
        assert part.inputs.tobytes() == np.asarray(inputs).tobytes()
        np.testing.assert_array_equal(part.labels, labels)


def test_a_run_that_has_begun_gives_its_own(tmp_path):
  run = support.make_untrained_run(tmp_path / "run", num_clients=3, clients_per_round=2)
  before = support.snapshot(run.path)
  folder = tmp_path / "devices"
  arguments = (f"--run_dir={run.path}", f"--output_dir={folder}")
  assert support.call("device_data", device_data.main, *arguments) == 0
  assert support.snapshot(run.path) == before
  sizes = [
    [len(part) for part in device_examples.read(str(path))]
    for path in sorted(folder.iterdir())
  ]
  plan = support.plan_data(run.config)
  written = data_stage.write_data(plan, RunDirectory(run.path).data)
  assert sizes == written.references[:, 2:].tolist()


def test_what_appears_in_the_folder_meanwhile_stays(tmp_path, monkeypatch, capsys):
  folder = tmp_path / "devices"
  written = data_stage.write_data

  def write_data(*arguments):
    folder.mkdir()
    (folder / "own").write_text("own")
    return written(*arguments)

  monkeypatch.setattr(data_stage, "write_data", write_data)
  assert call(folder) == 2
  said = capsys.readouterr().err.splitlines()[-1]
  assert (
    said == f"device_data: --output_dir={folder}: exists already; name a new folder"
  )
  assert support.snapshot(tmp_path) == {"devices": None, "devices/own": b"own"}


@pytest.mark.parametrize(
  ("values", "line"),
  [
    ({"output_dir": ""}, "--output_dir is missing: name the folder to write"),
    ({"output_dir": "{tmp}"}, "--output_dir={tmp}: exists already; name a new folder"),
    ({"run_dir": "{tmp}"}, "--run_dir={tmp}: holds no run"),
    ({"dataset": "nothing"}, "--dataset"),
  ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, values, line):
  (tmp_path / "there").touch()
  values = {name: value.format(tmp=tmp_path) for name, value in values.items()}
  assert call(values.pop("output_dir", tmp_path / "devices"), **values) == 2
  (said,) = capsys.readouterr().err.splitlines()
  assert said.startswith(f"device_data: {line.format(tmp=tmp_path)}")
  assert [path.name for path in tmp_path.iterdir()] == ["there"]
