"""Rounds of Federated Pruning: an event is the ordinary round, then a new choice."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import pytest

from fedtiny_tff.federated import evaluation, states
from fedtiny_tff.federated.training_rounds import rounds, traffic
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models.channel_reduction import Reduction
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights, vector_sizes
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, federated_pruning, small_dense
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

_WIDTH = 0.125
_CONFIG = PruningConfig(0.4, 4, adjust_every_rounds=1, adjust_until_round=3)
_TRAINING = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1), 1, 4)


@functools.cache
def _find(width):
  found = registry.get_model("small_cnn", (4, 4, 1), 3, width)
  return dataclasses.replace(found, spec=schedules.GRANULARITIES["entire"](found.spec))


class _Setting(NamedTuple):
  plan: base.ModelPlan
  builder: rounds.RoundBuilder
  events: Any
  start: states.ServerState
  store: Any
  references: Any

  def run(self, state, number, computation=None):
    instruction = self.builder.instruction(number, 0.1)
    computation = computation or self.builder.computation(number, state.mask)
    if computation is self.builder.computation(0):
      instruction = instruction._replace(counts=np.zeros([0], np.int32))
    return computation.run(state, self.references, instruction)[0]


@pytest.fixture(name="setting", scope="module")
def fixture_setting(tmp_path_factory):
  """Four, 8 and 16 channels, of which a width of two thirds or so is trained."""
  plan = federated_pruning.FederatedPruning().plan_models(_find, _WIDTH, _CONFIG)
  generator = np.random.default_rng(0)
  parts = [support.random_part(generator, n, (4, 4, 1), 3) for n in (6, 3, 5, 2)]
  path = tmp_path_factory.mktemp("channels") / "records"
  clients = [support.Client(*parts[:2]), support.Client(*parts[2:])]
  store, references = support.write_store(path, clients)
  full = support.random_weights(plan.full)
  public = (np.zeros([0, 4, 4, 1], np.float32), np.zeros([0], np.int64))
  mask = np.ones(plan.trained.spec.size, bool)
  # The last channels are kept at first, whatever their norms are.
  reduction = Reduction(plan.full, plan.trained)
  *vectors, kept = plan.strategy.begin(base.Pretrained(plan.full, full, public), mask)[
    1
  ]
  first, last = _channels(plan.trained), _channels(plan.full)
  kept = np.concatenate(
    [np.arange(n - k, n) for k, n in zip(first, last, strict=True)]
  ).astype(np.int32)
  weights = ModelWeights(*map(np.asarray, reduction.gather(full, kept)))
  start = states.ServerState(weights, mask, np.int32(0), (*vectors, kept))
  spec = plan.trained.spec
  events = plan.strategy.plan_events(spec, spec.sizes, _CONFIG)
  builder = rounds.RoundBuilder(
    plan.trained, store, _TRAINING, plan.strategy, events, active_count=spec.size,
    seed=0, all_clients_every_round=True, memory=start.memory,
  )  # fmt: skip
  return _Setting(plan, builder, events, start, store, references)


def _channels(found):
  second, third, _ = found.spec.layers
  return (*second.shape[2:], third.shape[-1])


def test_the_small_model_is_smaller(setting):
  assert _channels(setting.plan.full) == (4, 8, 16)
  assert setting.plan.trained.spec.size <= int(0.4 * setting.plan.full.spec.size)
  assert all(
    few < many
    for few, many in zip(_channels(setting.plan.trained), (4, 8, 16), strict=True)
  )


def test_an_event_chooses_channels_after_an_ordinary_round(setting):
  before = setting.run(setting.start, 0)
  for one, another in zip(before.memory, setting.start.memory, strict=True):
    np.testing.assert_array_equal(one, another)
  after = setting.run(before, 1)
  averaged = setting.run(before, 1, setting.builder.computation(0))
  # By hand: put back, rank by norm, take out.
  reduction = Reduction(setting.plan.full, setting.plan.trained)
  *vectors, old = setting.start.memory
  full = reduction.scatter(ModelWeights(*vectors), old, averaged.weights)
  weights, kept = reduction.reduce(full)
  for one, another in zip(
    (*after.weights, *after.memory), (*weights, *full, kept), strict=True
  ):
    np.testing.assert_allclose(one, another, rtol=1e-6)
  assert after.memory[-1].tolist() != old.tolist()
  assert after.mask.all()
  assert after.round_index == 2
  spec = setting.plan.full.spec
  changed = [
    setting.plan.strategy.kept_weights(s.mask, s.memory) for s in (before, after)
  ]
  assert spec.active_counts(changed[0]) == spec.active_counts(changed[1])
  assert (changed[0] != changed[1]).any()


def test_rounds_go_on_after_it(setting):
  state = setting.start
  for number in range(4):
    before, state = state, setting.run(state, number)
    assert all(np.isfinite(vector).all() for vector in state.weights)
    trained = setting.plan.trained.spec.size
    assert (
      np.count_nonzero(state.weights.prunable != before.weights.prunable) > trained // 2
    )
  evaluate = evaluation.build_evaluation(
    setting.plan.trained, setting.store, active_count=setting.plan.trained.spec.size,
    batch_size=8,
  )  # fmt: skip
  assert float(evaluate(states.to_sparse(state), setting.references).examples) == 5


def test_the_wire_carries_the_small_model_and_nothing_else(setting):
  sizes, spec = vector_sizes(setting.plan.trained), setting.plan.trained.spec
  found = traffic.round_traffic(
    sizes, spec, spec.size, setting.plan.strategy, setting.events
  )
  ordinary, event = map(setting.builder.computation, (0, 1))
  values = sum(sizes)
  # Weight and three metrics; round and rate, and at events a count for each layer.
  assert found.upload_bytes == ordinary.upload_bytes == 4 * values + 16
  assert found.adjust_upload_bytes == event.upload_bytes == 4 * values + 16
  assert found.download_bytes == ordinary.download_bytes == 4 * values + 8
  assert event.download_bytes == 4 * values + 8 + 4 * len(spec.layers)
  assert found.position_bytes == ordinary.position_bytes == 0


def test_the_small_dense_models_wire(setting):
  plan = small_dense.SmallDense().plan_models(_find, _WIDTH, _CONFIG)
  sizes, spec = vector_sizes(plan.trained), plan.trained.spec
  builder = rounds.RoundBuilder(
    plan.trained, setting.store, _TRAINING, plan.strategy, (),
    active_count=spec.size, seed=0,
  )  # fmt: skip
  built = builder.computation(0)
  found = traffic.round_traffic(sizes, spec, spec.size, plan.strategy)
  assert found.upload_bytes == built.upload_bytes == 4 * sum(sizes) + 16
  assert found.download_bytes == built.download_bytes == 4 * sum(sizes) + 8
