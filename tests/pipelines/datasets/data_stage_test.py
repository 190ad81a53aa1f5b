"""Every example is in one place; the test split is apart."""

import collections
import shutil

import numpy as np
import pytest

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from pipelines.datasets import data_folder, data_plan, data_stage
from tests.pipelines import support
from tests.pipelines.datasets import made_data


@pytest.fixture(name="made", scope="module")
def fixture_made(tmp_path_factory):
  plan = support.plan_data(support.make_config())
  return data_stage.write_data(plan, tmp_path_factory.mktemp("run") / "data")


def test_every_digit_is_in_exactly_one_place(made):
  everything = made_data.digits("train") + made_data.digits("test")
  # No two digits are alike, so content tells the place.
  assert len(set(everything)) == len(everything) == 1797
  places = collections.Counter(
    record for records in made_data.parts(made).values() for record in records
  )
  assert places == collections.Counter(everything)


def test_the_test_split_is_with_nobody_else(made):
  expected = made_data.digits("test")
  assert made_data.records(made.test) == expected
  held = set(made_data.records(made.clients)) | set(made_data.records(made.public))
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
  label_of = {record: record[0] for record in made_data.digits("train")}
  stored = made_data.records(data.clients)
  assert [label_of[r] for r in stored] == data_folder.read_all(data.clients)[1].tolist()
  judged_inputs, judged = data_folder.read_test(data, tasks.RECONSTRUCT)
  np.testing.assert_array_equal(judged_inputs, inputs)
  assert judged.tolist() == [int(label in (3, 7)) for label in classes]


def test_classification_is_judged_by_class(made):
  _, classes = data_folder.read_all(made.test)
  np.testing.assert_array_equal(data_folder.read_test(made, tasks.CLASSIFY)[1], classes)


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


def test_no_example_to_test_on_is_refused_before_training(tmp_path):
  rows = "".join(f"u{i // 4},{i % 2},{i}\n" for i in range(40))
  (tmp_path / "few.csv").write_text("client,label,x\n" + rows)
  config = support.make_config(
    dataset="csv", data_dir=str(tmp_path / "few.csv"), feature_shape=["1", "1", "1"],
    num_clients=0, clients_per_round=2, public_samples_per_class=0,
  )  # fmt: skip
  plan = support.plan_data(config)
  with pytest.raises(
    InputError, match=r"dataset csv: no example to test on; bring a te"
  ):
    data_plan.check_test(plan)
  written = data_stage.write_data(plan, tmp_path / "data")
  with pytest.raises(InputError, match="no example to test on"):
    data_plan.check_test(
      data_plan.DataPlan(plan.info, 0, plan.training_sizes, (), None, written)
    )


def test_more_participants_than_clients_are_refused():
  config = support.make_config(num_clients=0, clients_per_round=1000)
  with pytest.raises(InputError, match="num_clients"):
    support.plan_data(config)


def _of_table(path):
  """Writes a table of two clients and returns the configuration of a run on it."""
  rows = "".join(f"u{i // 20},{i % 2},{i}\n" for i in range(40))
  path.write_text("client,label,x\n" + rows)
  return support.make_config(
    dataset="csv", data_dir=str(path), feature_shape=["1", "1", "1"], num_clients=0,
    clients_per_round=2, public_samples_per_class=0,
  )  # fmt: skip


def test_files_that_change_while_they_are_read_are_refused(tmp_path):
  path = tmp_path / "a.csv"
  plan = support.plan_data(_of_table(path))
  # As many rows, but two have changed places.
  header, first, second, *others = path.read_text().splitlines()
  path.write_text("\n".join([header, second, first, *others]) + "\n")
  with pytest.raises(
    InputError, match="csv: its files changed while they were read; le"
  ):
    data_stage.write_data(plan, tmp_path / "data")
  assert not data_folder.is_written(tmp_path / "data")


class TestRemoved:
  """Data that somebody removed come again as they were, or not at all."""

  @pytest.fixture(name="source")
  def fixture_source(self, tmp_path):
    return tmp_path / "a.csv"

  @pytest.fixture(name="config")
  def fixture_config(self, source):
    return _of_table(source)

  @pytest.fixture(name="folder")
  def fixture_folder(self, tmp_path, config):
    """A folder of data that a run began with, removed."""
    folder = tmp_path / "run" / "data"
    data = data_stage.write_data(support.plan_data(config), folder)
    data_stage.keep(data, folder)
    shutil.rmtree(folder)
    return folder

  def test_the_same_source_gives_the_same_data(self, config, folder, tmp_path):
    again = data_stage.reopen(config, folder, tasks.CLASSIFY)
    first = data_stage.write_data(support.plan_data(config), tmp_path / "first")
    assert made_data.parts(again) == made_data.parts(first)
    data_stage.keep(again, folder)

  @pytest.mark.parametrize(("old", "new"), [(",39\n", ",40\n"), ("u1,0", "u0,0")])
  def test_a_changed_source_is_refused(self, config, folder, source, old, new):
    text = source.read_text()
    source.write_text(text.replace(old, new))
    for _ in range(2):
      with pytest.raises(
        InputError, match=r"data\.json: says that other data were begun"
      ):
        data_stage.reopen(config, folder, tasks.CLASSIFY)
      assert not data_folder.is_written(folder)
    source.write_text(text)
    data_stage.reopen(config, folder, tasks.CLASSIFY)

  def test_a_damaged_note_is_refused(self, config, folder):
    folder.with_name("data.json").write_text("{")
    with pytest.raises(InputError, match=r"data\.json: cannot be read .* delete it if"):
      data_stage.reopen(config, folder, tasks.CLASSIFY)

  def test_others_that_were_prepared_are_refused(self, config, source, tmp_path):
    folder, prepared = tmp_path / "run" / "data", tmp_path / "prepared"
    data_stage.write_data(support.plan_data(config), prepared)
    of_prepared = support.make_config(
      dataset="prepared", data_dir=str(prepared), num_clients=0, clients_per_round=2,
      public_samples_per_class=0,
    )  # fmt: skip
    data = data_stage.write_data(support.plan_data(of_prepared), folder)
    data_stage.keep(data, folder)
    shutil.rmtree(prepared)
    source.write_text(source.read_text().replace(",39\n", ",40\n"))
    data_stage.write_data(support.plan_data(config), prepared)
    with pytest.raises(
      InputError, match=r"data\.json: says that other data were begun"
    ):
      data_stage.reopen(of_prepared, folder, tasks.CLASSIFY)
