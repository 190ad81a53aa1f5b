"""Every example is in one place; written once; the test split is apart."""

import collections
import json

import numpy as np
import pytest

from fedtiny_tff import tasks
from fedtiny_tff.data import client_store, examples, federation, scan
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from pipelines.datasets import data_folder, data_plan, data_stage
from tests.pipelines import support


@pytest.fixture(name="made", scope="module")
def fixture_made(tmp_path_factory):
  plan = support.plan_data(support.make_config())
  return data_stage.write_data(plan, tmp_path_factory.mktemp("run") / "data")


def _records(store, first=0, count=None):
  count = store.num_records if count is None else count
  return [bytes(record) for record in store.read(first, count).numpy()]


def _digits(split):
  dataset = sources.load("digits", SourceOptions())
  (batch,) = dataset.read(split, examples.fail_on_bad_record)
  return [bytes(record) for record in client_store.encode(batch, dataset.info)]


def _parts(data):
  """Returns the records of all places: public, test, and two per client."""
  parts = {"public": _records(data.public), "test": _records(data.test)}
  for client in range(len(data.references)):
    _, first, training, held_out = data.reference(client)
    parts[f"training {client}"] = _records(data.clients, first, training)
    parts[f"held out {client}"] = _records(
      data.clients, first + training, held_out
    )
  return parts


def test_every_digit_is_in_exactly_one_place(made):
  everything = _digits("train") + _digits("test")
  # No two digits are alike, so content tells the place.
  assert len(set(everything)) == len(everything) == 1797
  places = collections.Counter(
    record for records in _parts(made).values() for record in records
  )
  assert places == collections.Counter(everything)


def test_the_test_split_is_with_nobody_else(made):
  expected = _digits("test")
  assert _records(made.test) == expected
  held = set(_records(made.clients)) | set(_records(made.public))
  assert not held & set(expected)


def test_clients_cover_their_store(made):
  assert made.references.dtype == np.int64
  assert made.references[:, 0].tolist() == [0, 1, 2, 3]
  ends = made.references[:, 1:].sum(axis=1)
  assert made.references[0, 1] == 0
  assert ends[:-1].tolist() == made.references[1:, 1].tolist()
  assert ends[-1] == made.clients.num_records


def test_public_samples_are_balanced(made):
  labels = data_folder.read_all(made.public)[1]
  assert collections.Counter(labels.tolist()) == dict.fromkeys(range(10), 3)


def test_the_server_may_have_no_samples(tmp_path):
  plan = support.plan_data(support.make_config(public_samples_per_class=0))
  data = data_stage.write_data(plan, tmp_path / "data")
  inputs, labels = data_folder.read_all(data.public)
  assert (inputs.shape, labels.shape) == ((0, 8, 8, 1), (0,))
  assert data.summary()["public_examples"] == 0
  # Nothing is lost: what the server does not have, clients hold.
  assert data.clients.num_records == 1797 - 359


def test_a_store_is_read_as_model_inputs(made):
  inputs, labels = data_folder.read_all(made.test)
  assert (inputs.shape, inputs.dtype) == ((359, 8, 8, 1), np.float32)
  assert labels.shape == (359,)
  # Pixels are 0 to 16, scaled to [0, 1], minus 0.3, over 0.38.
  assert inputs.min() == pytest.approx(-0.3 / 0.38)
  assert inputs.max() == pytest.approx(0.7 / 0.38)


def test_the_summary_counts(made):
  summary = made.summary()
  assert summary["name"] == "digits"
  assert summary["input_shape"] == [8, 8, 1]
  assert summary["classes"] == [str(digit) for digit in range(10)]
  assert summary["clients"] == 4
  assert summary["public_examples"] == 30
  assert summary["test_examples"] == 359
  assert summary["training_examples"] == made.references[:, 2].sum()
  assert summary["development_examples"] == made.references[:, 3].sum()
  sizes = [int(row[2] + row[3]) for row in made.references]
  assert summary["smallest_client"] == min(sizes)
  assert summary["largest_client"] == max(sizes)


def test_planning_repeats():
  first, second = (
    support.plan_data(support.make_config()).unwritten.federation for _ in range(2)
  )
  np.testing.assert_array_equal(first.public, second.public)
  for name in ("training", "development"):
    pairs = zip(getattr(first, name), getattr(second, name), strict=True)
    for one, other in pairs:
      np.testing.assert_array_equal(one, other)


def test_the_seed_decides_who_gets_what():
  first = support.plan_data(support.make_config(seed=1)).unwritten.federation
  second = support.plan_data(support.make_config(seed=2)).unwritten.federation
  assert first.public.tolist() != second.public.tolist()


def test_missing_files_are_bad_input(tmp_path):
  with pytest.raises(InputError, match=r"must be a folder with train\.tfrecord"):
    support.plan_data(support.make_config(dataset="cifar10", data_dir=str(tmp_path)))


def test_anomalies_are_in_the_test_split_only(tmp_path):
  config = support.make_config(anomaly_classes=["3", "7"])
  plan = support.plan_data(config, tasks.RECONSTRUCT)
  data = data_stage.write_data(plan, tmp_path / "data")
  assert data.anomalies == (3, 7)
  assert data.summary()["anomaly_classes"] == ["3", "7"]
  normal = set(range(10)) - {3, 7}
  for store in (data.clients, data.public):
    assert set(data_folder.read_all(store)[1].tolist()) == normal
  inputs, classes = data_folder.read_all(data.test)
  assert set(classes.tolist()) == set(range(10))
  # Each place holds what it would hold of the whole split: no index is shifted.
  label_of = {record: record[0] for record in _digits("train")}
  stored = _records(data.clients)
  assert [label_of[r] for r in stored] == data_folder.read_all(data.clients)[1].tolist()
  judged_inputs, judged = data_folder.read_test(data, tasks.RECONSTRUCT)
  np.testing.assert_array_equal(judged_inputs, inputs)
  assert judged.tolist() == [int(label in (3, 7)) for label in classes]


def test_classification_is_judged_by_class(made):
  _, classes = data_folder.read_all(made.test)
  np.testing.assert_array_equal(
    data_folder.read_test(made, tasks.CLASSIFY)[1], classes
  )


def _toy_plan():
  """Ten examples of two pixels; example i holds (i, i)."""
  info = examples.DatasetInfo(
    "toy", (2,), "uint8", ("a", "b"), Preprocessing(1.0, (0.0,), (1.0,))
  )

  def read(split, on_bad_record):
    offset = 100 if split == "test" else 0
    pixels = np.arange(offset, offset + 10, dtype=np.uint8)
    yield examples.Batch(np.stack([pixels, pixels], axis=1), np.arange(10) % 2)

  dataset = examples.Dataset(info, read)
  made = federation.Federation(
    public=np.array([4]),
    training=(np.array([0, 9]), np.array([1, 2, 3])),
    development=(np.array([8]), np.array([5, 6])),
    clients=np.arange(2),
  )
  what = data_plan.Unwritten(dataset, scan.scan(dataset), made, "iid", ("0", "1"), {})
  return data_plan.DataPlan(info, 1, np.array([2, 3]), (), what)


def test_records_lie_as_the_references_say(tmp_path):
  data = data_stage.write_data(_toy_plan(), tmp_path / "data")
  assert data.references.tolist() == [[0, 0, 2, 1], [1, 3, 3, 2]]
  assert data_folder.read_all(data.clients)[0][:, 0].tolist() == [0, 9, 8, 1, 2, 3, 5, 6]
  assert data_folder.read_all(data.public)[0][:, 0].tolist() == [4]
  assert data_folder.read_all(data.test)[0][:, 0].tolist() == list(range(100, 110))


def test_finished_data_are_not_written_again(tmp_path):
  folder = tmp_path / "data"
  data_stage.write_data(_toy_plan(), folder)
  before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
  data_stage.write_data(_toy_plan(), folder)
  assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_unfinished_data_are_written_again(tmp_path):
  folder = tmp_path / "data"
  data_stage.write_data(_toy_plan(), folder)
  whole = support.snapshot(folder)
  (folder / "dataset.json").unlink()
  (folder / "test.records").unlink()
  (folder / "clients.records").write_bytes(b"half")
  data_stage.write_data(_toy_plan(), folder)
  assert support.snapshot(folder) == whole


@pytest.mark.parametrize(
  "name",
  [
    "clients.records", "public.records", "test.records", "clients.npy",
    "test_clients.npy", "client_ids.json", "partition.json",
  ],
)  # fmt: skip
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + b"\xff", lambda b: b""])
def test_altered_data_are_refused(tmp_path, name, damage):
  folder = tmp_path / "data"
  data_stage.write_data(_toy_plan(), folder)
  path = folder / name
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(InputError, match=f"{name}: altered or truncated; delete"):
    data_stage.write_data(_toy_plan(), folder)


@pytest.mark.parametrize("member", ["made", "assignment", "files", "info", "anomalies"])
def test_descriptions_that_lack_something_are_refused(tmp_path, member):
  folder = tmp_path / "data"
  data_stage.write_data(_toy_plan(), folder)
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
  ],
)
def test_descriptions_of_other_data_are_refused(tmp_path, change):
  folder = tmp_path / "data"
  data_stage.write_data(_toy_plan(), folder)
  document = json.loads((folder / "dataset.json").read_text())
  change(document)
  (folder / "dataset.json").write_text(json.dumps(document))
  with pytest.raises(InputError, match=r"cannot be read .* delete .* and run again"):
    data_folder.open_folder(folder)


@pytest.mark.parametrize(
  "content", ["", "[]", "{}", '{"format": "other"}', "[" * 100_000]
)
def test_damaged_descriptions_are_refused(tmp_path, content):
  folder = tmp_path / "data"
  data_stage.write_data(_toy_plan(), folder)
  (folder / "dataset.json").write_text(content)
  with pytest.raises(InputError, match=r"cannot be read .* delete .* and run again"):
    data_stage.write_data(_toy_plan(), folder)


class TestReopened:
  def test_written_data_need_no_source(self, made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("again") / "data"
    config = support.make_config()
    first = data_stage.write_data(support.plan_data(config), folder)
    opened = data_plan.open_dataset(config, folder)
    assert opened.source is None
    assert opened.info == first.info == made.info
    again = data_stage.reopen(config, folder, tasks.CLASSIFY)
    assert _parts(again) == _parts(first)
    assert again.summary() == first.summary()

  def test_prepared_data_are_used_where_they_are(self, tmp_path):
    folder = tmp_path / "prepared"
    first = data_stage.write_data(support.plan_data(support.make_config()), folder)
    config = support.make_config(
      dataset="prepared", data_dir=str(folder), num_clients=3, clients_per_round=2
    )
    data = data_stage.write_data(support.plan_data(config), tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert data.clients.path == first.clients.path
    assert data.client_ids == ("0", "1", "2")
    np.testing.assert_array_equal(data.references, first.references[:3])

  def test_more_clients_than_were_prepared_are_refused(self, tmp_path):
    folder = tmp_path / "prepared"
    data_stage.write_data(support.plan_data(support.make_config()), folder)
    config = support.make_config(
      dataset="prepared", data_dir=str(folder), num_clients=5, clients_per_round=2
    )
    with pytest.raises(InputError, match="dataset digits has 4 clients; 0 takes all"):
      support.plan_data(config)

  def test_another_assignment_than_the_prepared_one_is_refused(self, tmp_path):
    folder = tmp_path / "prepared"
    made = support.make_config(dirichlet_alpha=0.7)
    data_stage.write_data(support.plan_data(made), folder)
    options = {"dataset": "prepared", "data_dir": str(folder), "num_clients": 0}
    # What it was made with, and what nobody asked for, are both right.
    for alpha in (0.7, 0.5):
      config = support.make_config(**options, dirichlet_alpha=alpha)
      assert len(support.plan_data(config).training_sizes) == 4
    with pytest.raises(InputError, match=r"--dirichlet_alpha=0.2: .* prepared with 0.7"):
      support.plan_data(support.make_config(**options, dirichlet_alpha=0.2))

  def test_flags_that_do_not_concern_prepared_data_are_refused(self, tmp_path):
    data_stage.write_data(support.plan_data(support.make_config()), tmp_path)
    config = support.make_config(
      dataset="prepared", data_dir=str(tmp_path), image_size="4x4"
    )
    with pytest.raises(InputError, match="--image_size: dataset prepared has no use"):
      support.plan_data(config)

  @pytest.mark.parametrize(
    ("data_dir", "message"),
    [(None, "prepared needs --data_dir"), ("/nowhere", "holds no prepared data")],
  )
  def test_prepared_data_that_are_not_there(self, data_dir, message):
    with pytest.raises(InputError, match=message):
      support.plan_data(support.make_config(dataset="prepared", data_dir=data_dir))

  def test_anomalies_that_were_not_left_out_are_refused(self, tmp_path):
    data_stage.write_data(support.plan_data(support.make_config()), tmp_path)
    with pytest.raises(InputError, match=r"written for anomaly classes .*; write it again"):
      data_stage.reopen(support.make_config(), tmp_path, tasks.RECONSTRUCT)


class TestTestExamplesOfClients:
  """Six natural clients with test examples of their own."""

  def plan(self, tmp_path, **changes):
    options = {
      "dataset": "synthetic", "synthetic_clients": 6, "num_clients": 4,
      "clients_per_round": 2, **changes,
    }  # fmt: skip
    return support.plan_data(support.make_config(**options))

  def test_natural_clients_have_theirs(self, tmp_path):
    data = data_stage.write_data(self.plan(tmp_path), tmp_path / "data")
    counts = data.test_references[:, 1]
    assert (counts > 0).all()
    # The first of the split: owners come in order.
    assert data.test_references[:, 0].tolist() == [0, *np.cumsum(counts)[:-1].tolist()]

  def test_dealt_clients_have_none(self, tmp_path):
    plan = self.plan(tmp_path, partitioner="iid")
    data = data_stage.write_data(plan, tmp_path / "data")
    assert data.test_references.tolist() == [[0, 0]] * 4

  @pytest.mark.parametrize("partitioner", ["natural", "iid"])
  def test_a_file_tells_the_two_apart(self, tmp_path, partitioner):
    plan = self.plan(tmp_path, partitioner=partitioner)
    first = data_stage.write_data(plan, tmp_path / "data")
    again = self.plan(
      tmp_path, partition_file=str(tmp_path / "data" / "partition.json")
    )
    data = data_stage.write_data(again, tmp_path / "again")
    assert data.test_references[:, 1].tolist() == first.test_references[:, 1].tolist()


class TestPartitionFile:
  def test_everybody_gets_the_same_again(self, made, tmp_path):
    first = support.plan_data(support.make_config())
    path = tmp_path / "partition.json"
    path.write_text(data_stage.saved_partition(first.info, first.unwritten))
    config = support.make_config(partition_file=str(path), seed=99)
    data = data_stage.write_data(support.plan_data(config), tmp_path / "data")
    assert _parts(data) == _parts(made)
    assert data.made["partitioner"] == "file"
    assert made.made["partitioner"] == "dirichlet"

  def test_one_of_other_data_is_refused(self, tmp_path):
    path = tmp_path / "partition.json"
    plan = _toy_plan()
    path.write_text(data_stage.saved_partition(plan.info, plan.unwritten))
    with pytest.raises(InputError, match=r"partition\.json"):
      support.plan_data(support.make_config(partition_file=str(path)))

  @pytest.fixture(name="path")
  def fixture_path(self, tmp_path):
    plan = support.plan_data(support.make_config())
    path = tmp_path / "partition.json"
    path.write_text(data_stage.saved_partition(plan.info, plan.unwritten))
    return path

  def test_one_that_gives_anomalies_away_is_refused(self, path):
    config = support.make_config(partition_file=str(path), anomaly_classes=["3", "7"])
    with pytest.raises(InputError, match=r"examples of class 3, 7 away, .* anomalies"):
      support.plan_data(config, tasks.RECONSTRUCT)

  def test_another_number_of_clients_is_refused(self, path):
    with pytest.raises(InputError, match=r"--num_clients=3, but .* has 4 clients"):
      support.plan_data(
        support.make_config(partition_file=str(path), num_clients=3, clients_per_round=2)
      )
    for number in (0, 4):
      config = support.make_config(
        partition_file=str(path), num_clients=number, clients_per_round=2
      )
      assert len(support.plan_data(config).training_sizes) == 4

  def test_one_that_is_not_there_is_refused(self):
    with pytest.raises(InputError, match="--partition_file=/nowhere: cannot be read"):
      support.plan_data(support.make_config(partition_file="/nowhere"))


def test_no_example_to_test_on_is_refused_before_training(tmp_path):
  rows = "".join(f"u{i // 4},{i % 2},{i}\n" for i in range(40))
  (tmp_path / "few.csv").write_text("client,label,x\n" + rows)
  config = support.make_config(
    dataset="csv", data_dir=str(tmp_path / "few.csv"), feature_shape=["1", "1", "1"],
    num_clients=0, clients_per_round=2, public_samples_per_class=0,
  )  # fmt: skip
  plan = support.plan_data(config)
  with pytest.raises(InputError, match=r"dataset csv: no example to test on; bring a te"):
    data_plan.check_test(plan)
  written = data_stage.write_data(plan, tmp_path / "data")
  with pytest.raises(InputError, match="no example to test on"):
    data_plan.check_test(data_plan.DataPlan(plan.info, 0, plan.training_sizes, (), None, written))


def test_the_partitioner_that_was_used_may_be_named(tmp_path):
  data_stage.write_data(support.plan_data(support.make_config()), tmp_path)
  options = {"dataset": "prepared", "data_dir": str(tmp_path), "num_clients": 0}
  support.plan_data(support.make_config(**options, partitioner="dirichlet"))
  with pytest.raises(InputError, match=r"--partitioner=iid: .* prepared with dirichlet"):
    support.plan_data(support.make_config(**options, partitioner="iid"))


def test_more_participants_than_clients_are_refused():
  config = support.make_config(num_clients=0, clients_per_round=1000)
  with pytest.raises(InputError, match="num_clients"):
    support.plan_data(config)
