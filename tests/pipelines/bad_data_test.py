"""Data that cannot be used: one line and exit code 2, or left out and counted."""

import json
import sqlite3

import numpy as np
import pytest

from pipelines import make_dataset, run
from pipelines.datasets import data_folder
from pipelines.runs.run_directory import RunDirectory
from tests.fedtiny_tff.data.sources import records
from tests.pipelines import support

_GENERATOR = np.random.default_rng(0)
_DESCRIPTION = {
  "shape": [8, 8, 1],
  "classes": ["even", "odd"],
  "splits": {"train": ["train.tfrecord"], "test": ["test.tfrecord"]},
}


def _image(label):
  """Bright in the upper half for 0, in the lower for 1."""
  image = _GENERATOR.integers(0, 60, (8, 8, 1))
  image[4 * label : 4 * label + 4] += 150
  return image.astype(np.uint8)


def _record(client="ann", label=0, **changes):
  fields = {
    "client_id": client.encode(), "label": label, "image": records.png(_image(label)),
    **changes,
  }  # fmt: skip
  return records.example(
    **{name: each for name, each in fields.items() if each is not None}
  )


def _write(folder, spoilt=None, description=None):
  """Ann has 16 examples of two classes, Bo one, Cy six of one class."""
  folder.mkdir(parents=True)
  train = [_record("ann", i % 2) for i in range(16)] + [_record("bo", 1)]
  train += [_record("cy", 0) for _ in range(6)]
  if spoilt is not None:
    train.insert(3, spoilt)
  records.write(folder / "train.tfrecord", train)
  records.write(folder / "test.tfrecord", [_record("ann", i % 2) for i in range(6)])
  (folder / "dataset.json").write_text(json.dumps(description or _DESCRIPTION))
  return folder


def _run(folder, data, *arguments):
  return support.call(
    "run", run.main, "--dataset=client_tfrecord", f"--data_dir={data}",
    f"--output_dir={folder}", "--num_clients=0", "--clients_per_round=0",
    "--model=digits_cnn", "--rounds=2", "--public_samples_per_class=1",
    "--target_density=0.3", "--pool_size=2", "--adjust_every_rounds=1", "--local_epochs=1",
    "--nodense_baseline", "--targets=", *arguments,
  )  # fmt: skip


_floats = np.full(64, 0.5).tolist()

BAD_RECORDS = {
  "corrupt_image": (_record(image=b"\x89PNG but no more"), "record 3, field image"),
  "cut_image": (_record(image=records.png(_image(0))[:-30]), "record 3, field image"),
  "other_shape": (
    _record(image=records.png(np.zeros((8, 9, 1), np.uint8))),
    "record 3, field image",
  ),
  "label_too_large": (_record(label=2, image=records.png(_image(0))), "field label"),
  "negative_label": (_record(label=-1, image=records.png(_image(0))), "field label"),
  "no_label": (
    records.example(client_id=b"ann", image=records.png(_image(0))),
    "field label",
  ),
  "no_client": (
    records.example(label=0, image=records.png(_image(0))),
    "field client_id",
  ),
  "client_no_text": (_record(client_id=b"\xff\xfe"), "field client_id"),
  "no_example": (b"these bytes are no message \xff", "record 3"),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_ends_the_run_or_is_left_out(tmp_path, capsys, name):
  spoilt, said = BAD_RECORDS[name]
  data = _write(tmp_path / "in", spoilt)
  assert _run(tmp_path / "out", data) == 2
  error = capsys.readouterr().err
  assert error.startswith("run: ")
  assert error.count("\n") == 1
  assert said in error
  assert "train.tfrecord" in error
  assert "--on_bad_record=skip" in error
  assert not (tmp_path / "out").exists()
  prepare = [
    "--dataset=client_tfrecord", f"--data_dir={data}", "--num_clients=0",
    f"--output_dir={tmp_path / 'made'}", "--public_samples_per_class=1",
    "--on_bad_record=skip",
  ]  # fmt: skip
  assert support.call("make_dataset", make_dataset.main, *prepare) == 0
  facts = data_folder.open_folder(tmp_path / "made").summary()
  assert facts["bad_records"]["count"] == 1
  assert said in facts["bad_records"]["first"][0]
  kept = sum(
    facts[f"{part}_examples"] for part in ("training", "development", "public")
  )
  assert kept == 23
  assert "left out 1 bad record: " in capsys.readouterr().err


def test_a_nan_is_a_bad_record(tmp_path, capsys):
  data = tmp_path / "in"
  data.mkdir()
  rows = [
    records.example(
      client_id=b"ann", label=i % 2, features=_GENERATOR.normal(size=64).tolist()
    )
    for i in range(12)
  ]
  rows[5] = records.example(
    client_id=b"ann", label=0, features=[float("nan"), *_floats[1:]]
  )
  records.write(data / "train.tfrecord", rows)
  description = {**_DESCRIPTION, "splits": {"train": ["train.tfrecord"]}}
  (data / "dataset.json").write_text(json.dumps(description))
  assert _run(tmp_path / "out", data) == 2
  error = capsys.readouterr().err
  assert "record 5, field features" in error
  assert "nan" in error.lower()


def test_a_cut_off_file_is_noticed(tmp_path, capsys):
  data = _write(tmp_path / "in")
  path = data / "train.tfrecord"
  path.write_bytes(path.read_bytes()[:-7])
  assert _run(tmp_path / "out", data) == 2
  error = capsys.readouterr().err
  assert "train.tfrecord, record 22" in error
  assert error.count("\n") == 1


def test_clients_of_one_sample_and_of_one_class_take_part(tmp_path, capsys):
  data = _write(tmp_path / "in")
  assert _run(tmp_path / "out", data) == 0
  report = RunDirectory(tmp_path / "out").read_report()
  dataset = report["dataset"]
  assert (dataset["clients"], dataset["smallest_client"]) == (3, 1)
  assert dataset["partitioner"] == "natural"
  # Only Ann owns test examples.
  assert report["client_accuracy"]["judged_on"] == "test"
  assert report["client_accuracy"]["worst_client"] == "ann"
  rows = (tmp_path / "out" / "metrics.csv").read_text()
  assert "nan" not in rows
  assert all(np.isfinite(row["loss"]) for row in report["selection"])


def test_a_split_without_examples_is_refused(tmp_path, capsys):
  data = _write(tmp_path / "in")
  records.write(data / "train.tfrecord", [])
  assert _run(tmp_path / "out", data) == 2
  assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"classes": ["a", "a"]}, "classes"),
    ({"shape": [8, -8, 1]}, "shape"),
    ({"shape": "8x8"}, "shape"),
    ({"splits": {"train": ["../train.tfrecord"]}}, "splits"),
    ({"splits": {"train": ["train.tfrecord", "train.tfrecord"]}}, "twice"),
    ({"splits": {"train": ["absent.tfrecord"]}}, "absent.tfrecord"),
  ],
)
def test_a_wrong_description_is_one_line(tmp_path, capsys, change, said):
  data = _write(tmp_path / "in", description={**_DESCRIPTION, **change})
  assert _run(tmp_path / "out", data) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert said in error


def test_a_database_that_is_none(tmp_path, capsys):
  data = tmp_path / "in"
  data.mkdir()
  (data / "d.sqlite").write_bytes(b"SQLite format 3\x00" + b"\x07" * 4096)
  splits = {"train": ["d.sqlite"]}
  (data / "dataset.json").write_text(json.dumps({**_DESCRIPTION, "splits": splits}))
  assert _run(tmp_path / "out", data, "--dataset=client_sqlite") == 2
  error = capsys.readouterr().err
  assert "d.sqlite" in error
  assert error.count("\n") == 1


def test_a_client_that_is_there_twice(tmp_path, capsys):
  data = tmp_path / "in"
  data.mkdir()
  message = _record("ann", 0)
  with sqlite3.connect(data / "d.sqlite") as database:
    database.execute(
      "CREATE TABLE examples (split_name, client_id, serialized_example_proto)"
    )
    for client, content in [
      ("ann", message),
      ("ann", message),
      ("bo", _record("bo", 1)),
    ]:
      database.execute("INSERT INTO examples VALUES ('train', ?, ?)", (client, content))
  splits = {"train": ["d.sqlite"]}
  (data / "dataset.json").write_text(json.dumps({**_DESCRIPTION, "splits": splits}))
  assert _run(tmp_path / "out", data, "--dataset=client_sqlite") == 2
  error = capsys.readouterr().err
  assert "ann" in error
  assert error.count("\n") == 1
