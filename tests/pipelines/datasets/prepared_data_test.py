"""Data that were shared out before: prepared folders and partition files."""

import numpy as np
import pytest

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from pipelines.datasets import data_plan, data_stage
from tests.pipelines import support
from tests.pipelines.datasets import made_data


@pytest.fixture(name="made", scope="module")
def fixture_made(tmp_path_factory):
  plan = support.plan_data(support.make_config())
  return data_stage.write_data(plan, tmp_path_factory.mktemp("run") / "data")


class TestReopened:
  def test_written_data_need_no_source(self, made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("again") / "data"
    config = support.make_config()
    first = data_stage.write_data(support.plan_data(config), folder)
    opened = data_plan.open_dataset(config, folder)
    assert opened.source is None
    assert opened.info == first.info == made.info
    again = data_stage.reopen(config, folder, tasks.CLASSIFY)
    assert made_data.parts(again) == made_data.parts(first)
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
    with pytest.raises(
      InputError, match=r"--dirichlet_alpha=0.2: .* prepared with 0.7"
    ):
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
    with pytest.raises(
      InputError, match=r"written for anomaly classes .*; write it again"
    ):
      data_stage.reopen(support.make_config(), tmp_path, tasks.RECONSTRUCT)


class TestPartitionFile:
  def test_everybody_gets_the_same_again(self, made, tmp_path):
    first = support.plan_data(support.make_config())
    path = tmp_path / "partition.json"
    path.write_text(data_stage.saved_partition(first.info, first.unwritten))
    config = support.make_config(partition_file=str(path), seed=99)
    data = data_stage.write_data(support.plan_data(config), tmp_path / "data")
    assert made_data.parts(data) == made_data.parts(made)
    assert data.made["partitioner"] == "file"
    assert made.made["partitioner"] == "dirichlet"

  def test_one_of_other_data_is_refused(self, tmp_path):
    path = tmp_path / "partition.json"
    plan = made_data.toy_plan()
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
        support.make_config(
          partition_file=str(path), num_clients=3, clients_per_round=2
        )
      )
    for number in (0, 4):
      config = support.make_config(
        partition_file=str(path), num_clients=number, clients_per_round=2
      )
      assert len(support.plan_data(config).training_sizes) == 4

  def test_one_that_is_not_there_is_refused(self):
    with pytest.raises(InputError, match="--partition_file=/nowhere: cannot be read"):
      support.plan_data(support.make_config(partition_file="/nowhere"))


def test_the_partitioner_that_was_used_may_be_named(tmp_path):
  data_stage.write_data(support.plan_data(support.make_config()), tmp_path)
  options = {"dataset": "prepared", "data_dir": str(tmp_path), "num_clients": 0}
  support.plan_data(support.make_config(**options, partitioner="dirichlet"))
  with pytest.raises(
    InputError, match=r"--partitioner=iid: .* prepared with dirichlet"
  ):
    support.plan_data(support.make_config(**options, partitioner="iid"))
