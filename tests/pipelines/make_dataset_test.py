"""Datasets in another form are the same datasets."""

import collections
import json
from typing import Any

import numpy as np
import pytest

from fedtiny_tff.data import client_store, scan
from fedtiny_tff.data.examples import Batch, fail_on_bad_record
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from pipelines import make_dataset
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder, dataset_files
from tests.fedtiny_tff.data.sources import records
from tests.pipelines import support


def _call(folder, *arguments):
  return support.call(
    "make_dataset", make_dataset.main, f"--output_dir={folder}", "--num_clients=4",
    "--partitioner=iid", *arguments,
  )  # fmt: skip


def _by_client(dataset, split):
  """Counts each client's examples, by their bytes."""
  held: dict[str, Any] = collections.defaultdict(collections.Counter)
  for batch in dataset.read(split, fail_on_bad_record):
    records = client_store.encode(Batch(batch.features, batch.labels), dataset.info)
    for client, record in zip(batch.clients, records, strict=True):
      held[str(client)][bytes(record)] += 1
  return held


def _all(dataset, split):
  return collections.Counter(
    bytes(record)
    for batch in dataset.read(split, fail_on_bad_record)
    for record in client_store.encode(batch, dataset.info)
  )


@pytest.mark.parametrize("form", ["client_tfrecord", "client_sqlite"])
def test_digits_come_back_with_owners(tmp_path, capsys, form):
  folder = tmp_path / "made"
  assert _call(folder, f"--to_format={form}") == 0
  printed = capsys.readouterr().out
  assert f"{folder}: 1,438 training and 359 test examples of 4 clients" in printed
  digits = sources.load("digits", SourceOptions())
  again = sources.load(form, SourceOptions(data_dir=str(folder)))
  assert again.has_clients
  assert (again.info.shape, again.info.class_names) == (
    digits.info.shape,
    digits.info.class_names,
  )
  # What training saw of digits travels with them.
  assert not again.measures_inputs
  np.testing.assert_allclose(
    again.info.preprocessing.apply(np.array([16.0])), [(1 - 0.3) / 0.38], rtol=1e-6
  )
  train = _by_client(again, "train")
  assert sorted(train) == ["0", "1", "2", "3"]
  assert [sum(train[client].values()) for client in sorted(train)] == [
    360,
    360,
    359,
    359,
  ]
  assert sum(train.values(), collections.Counter()) == _all(digits, "train")
  assert _by_client(again, "test") == {"test": _all(digits, "test")}


def test_tff_opens_the_database(tmp_path):
  import tensorflow_federated as tff

  folder = tmp_path / "made"
  assert _call(folder, "--to_format=client_sqlite") == 0
  data = tff.simulation.datasets.SqlClientData(
    str(folder / "examples.sqlite"), split_name="train"
  )
  assert sorted(data.client_ids) == ["0", "1", "2", "3"]
  records = list(data.create_tf_dataset_for_client("2").as_numpy_iterator())
  assert len(records) == 359


def test_natural_owners_stay_who_they_are(tmp_path):
  folder = tmp_path / "made"
  arguments = ["--dataset=synthetic", "--synthetic_clients=6", "--partitioner=natural"]
  assert _call(folder, "--to_format=client_tfrecord", *arguments) == 0
  source = sources.load("synthetic", SourceOptions(synthetic_clients=6))
  again = sources.load("client_tfrecord", SourceOptions(data_dir=str(folder)))
  wanted, found = (scan.scan(each) for each in (source, again))
  # The first four of six.
  assert found.client_ids == wanted.client_ids[:4]
  assert wanted.train.owners is not None
  assert found.train.owners is not None
  kept = np.flatnonzero(wanted.train.owners < 4)
  assert len(found.train) == len(kept)
  assert found.train.labels.tolist() == wanted.train.labels[kept].tolist()
  assert found.train.owners.tolist() == wanted.train.owners[kept].tolist()


def test_prepared_data_are_those_of_a_run(tmp_path):
  folder = tmp_path / "made"
  assert _call(folder, "--public_samples_per_class=3", "--seed=5") == 0
  data = data_folder.open_folder(folder)
  assert data.info.name == "digits"
  assert data.summary()["clients"] == 4
  assert data.public.num_records == 30
  assert (
    data.clients.num_records + data.public.num_records + data.test.num_records == 1797
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--to_format=zip"], "--to_format must be one of prepared, client_tfrecord"),
    (["--dataset=mnist"], "--dataset must be one of"),
    (
      ["--anomaly_classes=9", "--to_format=client_tfrecord"],
      "--anomaly_classes: only --to_format=prepared leaves anomalies out",
    ),
    (
      ["--dataset=prepared", "--to_format=client_sqlite"],
      "--dataset=prepared: is split already; convert the dataset it was made from",
    ),
    (
      ["--dataset=prepared", "--to_format=prepared"],
      "--dataset=prepared: is split already; convert the dataset it was made from",
    ),
  ],
)
def test_bad_input_writes_nothing(tmp_path, capsys, arguments, message):
  assert _call(tmp_path / "made", *arguments) == 2
  error = capsys.readouterr().err
  assert message in error
  assert len(error.splitlines()) == 1
  assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path, capsys):
  (tmp_path / "mine.txt").write_text("kept")
  assert _call(tmp_path) == 2
  assert "exists already; name a new folder" in capsys.readouterr().err
  assert support.call("make_dataset", make_dataset.main) == 2
  assert "--output_dir is missing" in capsys.readouterr().err


def _table(path, text):
  path.write_text("client,label,split,x\n" + text)
  return ["--dataset=csv", f"--data_dir={path}", "--client_column=client"]


def test_owners_keep_their_test_examples_whatever_the_order_of_clients(tmp_path):
  rows = [f"{client},{i % 2},{split},{8 * i + 100 * j + k}.5\n"
          for i in range(4) for j, split in enumerate(("train", "test"))
          for k, client in enumerate(("ann", "bo", "cy"))]  # fmt: skip
  table = _table(tmp_path / "a.csv", "".join(rows))
  flags = [
    *table,
    "--partitioner=natural",
    "--num_clients=0",
    "--public_samples_per_class=0",
  ]
  assert _call(tmp_path / "prepared", *flags) == 0
  # The same clients in another order.
  path = tmp_path / "partition.json"
  saved = json.loads((tmp_path / "prepared" / "partition.json").read_text())
  saved["clients"] = saved["clients"][1:] + saved["clients"][:1]
  path.write_text(json.dumps(saved))
  flags = [*table, f"--partition_file={path}", "--num_clients=0"]
  assert _call(tmp_path / "made", *flags, "--to_format=client_tfrecord") == 0
  source = sources.load(
    "csv", SourceOptions(data_dir=str(tmp_path / "a.csv"), client_column="client")
  )
  again = sources.load(
    "client_tfrecord", SourceOptions(data_dir=str(tmp_path / "made"))
  )
  for split in ("train", "test"):
    assert _by_client(again, split) == _by_client(source, split)


def test_a_client_called_test_is_not_nobody(tmp_path):
  rows = ["test,0,train,1\n", "test,1,train,2\n", "ann,0,train,3\n", "ann,1,train,4\n",
          "bo,0,test,5\n", "test,1,test,6\n"]  # fmt: skip
  table = _table(tmp_path / "a.csv", "".join(rows))
  flags = [
    *table,
    "--partitioner=natural",
    "--num_clients=0",
    "--to_format=client_sqlite",
  ]
  assert _call(tmp_path / "made", *flags) == 0
  again = sources.load("client_sqlite", SourceOptions(data_dir=str(tmp_path / "made")))
  assert {client: sum(held.values()) for client, held in _by_client(again, "test").items()} == {
    "test": 1, "test_": 1,
  }  # fmt: skip


def test_what_an_owner_holds_twice_is_written_once(tmp_path, capsys):
  rows = ["ann,0,train,1\n"] * 9 + [
    "bo,0,train,4\n",
    "bo,1,train,3\n",
    "ann,0,test,5\n",
  ]
  table = _table(tmp_path / "a.csv", "".join(rows))
  flags = [
    *table,
    "--partitioner=natural",
    "--num_clients=0",
    "--to_format=client_sqlite",
  ]
  assert _call(tmp_path / "made", *flags) == 0
  printed = capsys.readouterr()
  # Two of nine are held out, and left out for they are those that are trained on.
  assert "left out 6 examples that their owners hold twice" in printed.err
  again = sources.load("client_sqlite", SourceOptions(data_dir=str(tmp_path / "made")))
  held = _by_client(again, "train")
  assert {client: sum(each.values()) for client, each in held.items()} == {
    "ann": 1,
    "bo": 2,
  }


def test_overlapping_windows_stay_together(tmp_path, capsys):
  path = tmp_path / "a.csv"
  path.write_text("label,x\n" + "".join(f"{i // 30},{i}\n" for i in range(60)))
  flags = ["--dataset=csv", f"--data_dir={path}", "--window_rows=4", "--num_clients=1",
           "--window_stride_rows=2", "--public_samples_per_class=0"]  # fmt: skip
  assert _call(tmp_path / "made", *flags, "--to_format=client_tfrecord") == 2
  assert "windows overlap, and who reads the copy" in capsys.readouterr().err
  assert not (tmp_path / "made").exists()
  assert _call(tmp_path / "made", *flags) == 0
  data = data_folder.open_folder(tmp_path / "made")
  _, first, training, held_out = data.reference(0)
  values, _ = data_folder.read_all(data.clients)
  rows = [{round(float(each), 3) for each in window.ravel()} for window in values]
  parts = rows[first : first + training], rows[first + training :]
  assert len(parts[1]) == held_out > 0
  shared = {row for window in parts[0] for row in window}
  assert not [window for window in parts[1] if window & shared]


@pytest.mark.parametrize("form", ["client_tfrecord", "client_sqlite"])
def test_grey_images_come_back(tmp_path, form):
  generator = np.random.default_rng(0)
  for number in range(12):
    folder = tmp_path / "photos" / f"u{number % 2}" / "ab"[number // 6]
    folder.mkdir(parents=True, exist_ok=True)
    pixels = generator.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    (folder / f"{number}.png").write_bytes(records.png(pixels))
  flags = ["--dataset=image_folder", f"--data_dir={tmp_path / 'photos'}", "--num_clients=0",
           "--partitioner=natural", "--image_size=8x8", "--image_channels=1"]  # fmt: skip
  assert _call(tmp_path / "made", *flags, f"--to_format={form}") == 0
  again = sources.load(form, SourceOptions(data_dir=str(tmp_path / "made")))
  source = sources.load(
    "image_folder",
    SourceOptions(
      data_dir=str(tmp_path / "photos"), image_size=(8, 8), image_channels=1
    ),
  )
  assert again.info.preprocessing.extraction == source.info.preprocessing.extraction
  assert _all(again, "train") == _all(source, "train")


@pytest.mark.parametrize("form", sorted(dataset_files.WRITERS))
def test_what_appears_in_the_folder_meanwhile_stays(tmp_path, form):
  path = tmp_path / "made"

  class Meanwhile(Progress):
    """Somebody writes there while examples are counted."""

    def counting(self, described):
      path.mkdir(exist_ok=True)
      (path / "own").write_text("own")
      return super().counting(described)

  with pytest.raises(InputError, match=f"--output_dir={path}: exists already; name a"):
    dataset_files.WRITERS[form](support.make_config(), path, Meanwhile())
  assert support.snapshot(tmp_path) == {"made": None, "made/own": b"own"}


@pytest.mark.parametrize("form", sorted(dataset_files.WRITERS))
def test_files_that_change_while_they_are_read_are_refused(tmp_path, form):
  path = tmp_path / "a.csv"
  rows = [f"{i // 30},{i}" for i in range(60)]
  path.write_text("\n".join(["label,x", *rows]) + "\n")

  class Changing(Progress):
    """Says what is read when all was seen once; then two rows change places."""

    def say(self, message):
      super().say(message)
      path.write_text("\n".join(["label,x", rows[1], rows[0], *rows[2:]]) + "\n")

  config = support.make_config(
    dataset="csv", data_dir=str(path), feature_shape=["1"], public_samples_per_class=0
  )
  with pytest.raises(InputError, match="csv: its files changed while they were read"):
    dataset_files.WRITERS[form](config, tmp_path / "made", Changing())
  assert list(tmp_path.iterdir()) == [path]
