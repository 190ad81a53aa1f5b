"""Written once; altered or damaged data are refused."""

import hashlib
import json

import numpy as np
import pytest

from fedtiny_tff.data import client_store
from fedtiny_tff.data.examples import Batch
from fedtiny_tff.errors import InputError
from pipelines.datasets import data_folder, data_stage
from tests.fedtiny_tff import support as library_support
from tests.pipelines import support
from tests.pipelines.datasets import made_data


def test_records_lie_as_the_references_say(tmp_path):
  data = data_stage.write_data(made_data.toy_plan(), tmp_path / "data")
  assert data.references.tolist() == [[0, 0, 2, 1], [1, 3, 3, 2]]
  assert data_folder.read_all(data.clients)[0][:, 0].tolist() == [
    0,
    9,
    8,
    1,
    2,
    3,
    5,
    6,
  ]
  assert data_folder.read_all(data.public)[0][:, 0].tolist() == [4]
  assert data_folder.read_all(data.test)[0][:, 0].tolist() == list(range(100, 110))


def test_large_inputs_are_decoded_some_at_a_time(tmp_path):
  counts = []

  class Watched(client_store.ClientStore):
    def read(self, first, count):
      counts.append(count)
      return super().read(first, count)

  shape = (512, 512, 3)
  info = library_support.dataset_info(shape)
  examples = [(np.full(shape, number, np.uint8), number % 3) for number in range(30)]
  library_support.write_store(tmp_path / "s", info, examples, range(30))
  inputs, labels = data_folder.read_all(Watched(str(tmp_path / "s"), info, 30))
  # 64 MiB hold 21 of 3 MiB.
  assert counts == [21, 9]
  np.testing.assert_array_equal(inputs[:, 0, 0, 0], np.arange(30))
  assert labels.tolist() == [number % 3 for number in range(30)]
  assert (inputs.dtype, labels.dtype) == (np.float32, np.int64)


def test_finished_data_are_not_written_again(tmp_path):
  folder = tmp_path / "data"
  data_stage.write_data(made_data.toy_plan(), folder)
  before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  data_stage.write_data(made_data.toy_plan(), folder)
  assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_unfinished_data_are_written_again(tmp_path):
  folder = tmp_path / "data"
  data_stage.write_data(made_data.toy_plan(), folder)
  whole = support.snapshot(folder)
  (folder / "dataset.json").unlink()
  (folder / "test.records").unlink()
  (folder / "clients.records").write_bytes(b"half")
  data_stage.write_data(made_data.toy_plan(), folder)
  assert support.snapshot(folder) == whole


@pytest.mark.parametrize(
  "name",
  [
    "clients.records", "public.records", "test.records", "clients.npy",
    "test_clients.npy", "client_ids.json", "partition.json",
  ],
)  # fmt: skip
@pytest.mark.parametrize(
  "damage", [lambda b: b[:-1], lambda b: b[:-1] + b"\xff", lambda b: b""]
)
def test_altered_data_are_refused(tmp_path, name, damage):
  folder = tmp_path / "data"
  data_stage.write_data(made_data.toy_plan(), folder)
  path = folder / name
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(InputError, match=f"{name}: altered or truncated; delete"):
    data_stage.write_data(made_data.toy_plan(), folder)


@pytest.mark.parametrize("member", ["made", "assignment", "files", "info", "anomalies"])
def test_descriptions_that_lack_something_are_refused(tmp_path, member):
  folder = tmp_path / "data"
  data_stage.write_data(made_data.toy_plan(), folder)
  document = json.loads((folder / "dataset.json").read_text())
  del document[member]
  (folder / "dataset.json").write_text(json.dumps(document))
  with pytest.raises(InputError, match=r"cannot be read .* delete .* and run again"):
    data_folder.open_folder(folder)


@pytest.mark.parametrize(
  "change",
  [
    lambda d: d["info"].update(shape=[4]),
    lambda d: d["info"].update(shape=[]),
    lambda d: d["info"].update(shape=[-2]),
    lambda d: d.update(anomalies=[2]),
    lambda d: d["info"]["preprocessing"].update(mean=[0.0] * 3, deviation=[1.0] * 3),
    lambda d: d["info"].update(shape=[float("inf")]),
    lambda d: d["info"].update(name="\ud800"),
    lambda d: d["info"].update(name="\x1b[2J"),
    lambda d: d["info"].update(class_names=["\ud800", "b"]),
    lambda d: d["info"].update(class_names=["a\nb", "b"]),
    lambda d: d["info"].update(class_names=[1, 2]),
    lambda d: d["made"].update(bad_records={"count": "many"}),
    lambda d: d["made"].update(notes="\ud800"),
  ],
)
def test_descriptions_of_other_data_are_refused(tmp_path, change):
  folder = tmp_path / "data"
  data_stage.write_data(made_data.toy_plan(), folder)
  document = json.loads((folder / "dataset.json").read_text())
  change(document)
  (folder / "dataset.json").write_text(json.dumps(document))
  with pytest.raises(InputError, match=r"cannot be read .* delete .* and run again"):
    data_folder.open_folder(folder)


def _described_again(folder):
  """Makes a description of files that somebody has written anew."""
  document = json.loads((folder / "dataset.json").read_text())
  for name, facts in document["files"].items():
    content = (folder / name).read_bytes()
    facts |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
  (folder / "dataset.json").write_text(json.dumps(document))


def test_data_without_clients_are_refused(tmp_path):
  data_stage.write_data(made_data.toy_plan(), tmp_path)
  (tmp_path / "client_ids.json").write_text("[]")
  np.save(tmp_path / "clients.npy", np.zeros([0, 4], np.int64))
  np.save(tmp_path / "test_clients.npy", np.zeros([0, 2], np.int64))
  _described_again(tmp_path)
  with pytest.raises(InputError, match=r"\(client_ids\.json names no client\); delete"):
    data_folder.open_folder(tmp_path)


@pytest.mark.parametrize("name", data_folder.RECORDS)
@pytest.mark.parametrize("label", [2, -1, 2**40])
def test_labels_beyond_the_classes_are_refused(tmp_path, name, label):
  data = data_stage.write_data(made_data.toy_plan(), tmp_path)
  store = getattr(data, name)
  inputs, labels = data_folder.read_all(store)
  labels[-1] = label
  (tmp_path / f"{name}.records").write_bytes(
    client_store.framed_records(Batch(inputs, labels), store.info)
  )
  _described_again(tmp_path)
  said = rf"{name}\.records: record {len(labels) - 1} has label {label}, not one of 2"
  with pytest.raises(InputError, match=said):
    data_folder.open_folder(tmp_path)


@pytest.mark.parametrize("name", ["test.records", "clients.npy"])
def test_a_link_to_itself_is_refused(tmp_path, name):
  folder = tmp_path / "data"
  data_stage.write_data(made_data.toy_plan(), folder)
  (folder / name).unlink()
  (folder / name).symlink_to(name)
  with pytest.raises(InputError, match=r"cannot be read .* delete it and run again"):
    data_folder.open_folder(folder)


def test_what_was_made_says_nothing_else_about_what_is_there(tmp_path):
  folder = tmp_path / "data"
  before = data_stage.write_data(made_data.toy_plan(), folder).summary()
  document = json.loads((folder / "dataset.json").read_text())
  document["made"] |= {"classes": 5, "more": 1}
  (folder / "dataset.json").write_text(json.dumps(document))
  assert data_folder.open_folder(folder).summary() == before | {"more": 1}


@pytest.mark.parametrize(
  "content", ["", "[]", "{}", '{"format": "other"}', "[" * 100_000]
)
def test_damaged_descriptions_are_refused(tmp_path, content):
  folder = tmp_path / "data"
  data_stage.write_data(made_data.toy_plan(), folder)
  (folder / "dataset.json").write_text(content)
  with pytest.raises(InputError, match=r"cannot be read .* delete .* and run again"):
    data_stage.write_data(made_data.toy_plan(), folder)
