"""Pre-training and the choice of a candidate; scoring itself is scripted here."""

import dataclasses

import numpy as np
import pytest

from fedtiny_tff import tasks
from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights, initial_weights
from fedtiny_tff.strategies import base, registry
from pipelines.datasets import data_folder, data_stage
from pipelines.models import planned_model
from pipelines.training import experiments, selection_stage, training_pipeline
from tests.fedtiny_tff.support import floats
from tests.pipelines import support


@pytest.fixture(name="made", scope="module")
def fixture_made(tmp_path_factory):
  experiment = experiments.plan_experiment(support.make_config())
  data = data_stage.write_data(experiment.data, tmp_path_factory.mktemp("d") / "data")
  return experiment, data


@pytest.fixture(name="weights", scope="module")
def fixture_weights(made):
  vectors = initial_weights(made[0].definition, 5)
  return ModelWeights(*(np.asarray(vector) for vector in vectors))


def _choose(made, weights, **changes):
  experiment, data = made
  made_config = support.make_config(**changes)
  strategy = registry.get_strategy(made_config.strategy)
  planned = experiment.models._replace(strategy=strategy)
  return selection_stage.choose(made_config, data, planned, weights)


@pytest.fixture(name="scored")
def fixture_scored(monkeypatch):
  """Scripts three scores: losses 1.5, 0.5, 0.75 on four examples."""
  calls = []

  def score(config, data, definition, pool, strategy, devices):
    calls.append(len(pool.active_values))
    channels = pool.batch_norm_mean.size
    numbers = np.arange(3, dtype=np.float32)[:, np.newaxis]
    return selection.SelectionResult(
      tasks.Metrics(floats([6, 2, 3]), floats([1, 2, 4]), floats([4, 4, 4])),
      selection.BatchNormStatistics(
        numbers + np.zeros([3, channels], np.float32),
        numbers + np.full([3, channels], 10, np.float32),
      ),
      np.float32(2),
    )

  monkeypatch.setattr(selection_stage, "_score", score)
  return calls


def test_the_least_loss_wins_although_another_hits_more(made, weights, scored):
  start = _choose(made, weights)
  assert [row["loss"] for row in start.candidates] == [1.5, 0.5, 0.75]
  assert [row["accuracy"] for row in start.candidates] == [0.25, 0.5, 1.0]
  assert [row["chosen"] for row in start.candidates] == [0, 1, 0]
  assert [row["candidate"] for row in start.candidates] == [0, 1, 2]
  assert {tuple(row) for row in start.candidates} == {selection_stage.COLUMNS}
  assert scored == [3]


def test_without_classes_the_loss_alone_is_shown(made, weights, scored):
  experiment, data = made
  definition = dataclasses.replace(experiment.definition, task=tasks.RECONSTRUCT)
  planned = experiment.models._replace(pretrained=definition)
  start = _choose((dataclasses.replace(experiment, models=planned), data), weights)
  assert [row["loss"] for row in start.candidates] == [1.5, 0.5, 0.75]
  assert [row["accuracy"] for row in start.candidates] == ["", "", ""]
  assert [row["chosen"] for row in start.candidates] == [0, 1, 0]


def test_the_winners_mask_and_statistics_are_installed(made, weights, scored):
  state = _choose(made, weights).state
  experiment, _ = made
  nothing = (np.zeros([0, 8, 8, 1], np.float32), np.zeros([0], np.int64))
  masks = experiment.strategy.candidate_masks(
    base.Pretrained(experiment.definition, weights, nothing),
    support.make_config().pruning,
  )
  np.testing.assert_array_equal(state.mask, masks[1])
  assert not state.weights.prunable[~masks[1]].any()
  np.testing.assert_array_equal(
    state.weights.prunable[masks[1]], weights.prunable[masks[1]]
  )
  np.testing.assert_array_equal(state.weights.dense, weights.dense)
  assert set(state.weights.batch_norm_mean.tolist()) == {1.0}
  assert set(state.weights.batch_norm_variance.tolist()) == {11.0}
  assert state.round_index == 0


def test_every_candidate_has_the_exact_density(made, weights, scored):
  start = _choose(made, weights)
  densities = {row["density"] for row in start.candidates}
  assert densities == {support.ACTIVE / support.PRUNABLE}
  assert np.count_nonzero(start.state.mask) == support.ACTIVE


def test_without_selection_the_first_is_taken_unscored(made, weights, scored):
  start = _choose(made, weights, selection="none")
  assert scored == []
  assert [row["chosen"] for row in start.candidates] == [1, 0, 0]
  assert {(row["loss"], row["accuracy"]) for row in start.candidates} == {("", "")}
  np.testing.assert_array_equal(
    start.state.weights.batch_norm_mean, weights.batch_norm_mean
  )


def test_a_dense_strategy_has_one_full_candidate(made, weights, scored):
  start = _choose(made, weights, strategy="fedavg")
  assert scored == []
  [row] = start.candidates
  assert (row["density"], row["chosen"]) == (1.0, 1)
  assert start.state.mask.all()
  np.testing.assert_array_equal(start.state.weights.prunable, weights.prunable)


def test_a_smaller_model_starts_with_the_channels_of_largest_norm(
  made, weights, scored
):
  _, data = made
  config = support.make_config(strategy="federated_pruning", target_density=0.3)
  planned = planned_model.plan_models(
    config, (8, 8, 1), 10, registry.get_strategy("federated_pruning")
  )
  start = selection_stage.choose(config, data, planned, weights)
  assert scored == []
  kept = planned.trained.spec.size
  assert [row["density"] for row in start.candidates] == [kept / support.PRUNABLE]
  assert start.state.mask.all()
  assert start.state.mask.size == kept <= 0.3 * support.PRUNABLE
  where = planned.strategy.kept_weights(start.state.mask, start.state.memory)
  np.testing.assert_array_equal(start.state.weights.prunable, weights.prunable[where])
  for whole, one in zip(weights, start.state.memory[:-1], strict=True):
    np.testing.assert_array_equal(one, whole)


def test_without_epochs_nothing_is_learned(made):
  experiment, data = made
  config = support.make_config(pretrain_epochs=0)
  got = selection_stage.pretrain(config, data, experiment.definition)
  for found, expected in zip(
    got, initial_weights(experiment.definition, 5), strict=True
  ):
    np.testing.assert_array_equal(found, expected)


def test_without_samples_nothing_is_learned(tmp_path):
  config = support.make_config(public_samples_per_class=0, pretrain_epochs=2)
  experiment = experiments.plan_experiment(config)
  data = data_stage.write_data(experiment.data, tmp_path / "data")
  got = selection_stage.pretrain(config, data, experiment.definition)
  for found, expected in zip(
    got, initial_weights(experiment.definition, 5), strict=True
  ):
    np.testing.assert_array_equal(found, expected)


def test_pretraining_learns_the_public_samples_and_repeats(made):
  experiment, data = made
  config = support.make_config(pretrain_epochs=10)
  first, second = (
    selection_stage.pretrain(config, data, experiment.definition) for _ in range(2)
  )
  for one, other in zip(first, second, strict=True):
    assert isinstance(one, np.ndarray)
    np.testing.assert_array_equal(one, other)
  state = training_pipeline.states.ServerState(
    first, np.ones(support.PRUNABLE, bool), np.int32(0)
  )
  model = training_pipeline.finalize(experiment.definition, state)
  inputs, labels = data_folder.read_all(data.public)
  # In training mode: ten epochs are too few for the running statistics.
  hits = np.argmax(model(inputs, training=True), axis=1) == labels
  assert hits.mean() > 0.6
