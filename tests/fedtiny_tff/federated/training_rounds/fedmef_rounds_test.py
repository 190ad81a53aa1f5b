"""Rounds of FedMef in TFF: exact densities, local training, the penalty at work."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.federated import states
from fedtiny_tff.federated.training_rounds import client_work, rounds
from fedtiny_tff.local_training import batches, optimizers, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure.definition import ModelDefinition
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import fedmef
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

_COUNTS = (20, 12, 8, 6)
_CONFIG = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.05, 0.9), 1, 4)
_EVENT = 2


@dataclasses.dataclass(frozen=True)
class Setting:
  """A federation, what it starts from, and how FedMef trains it."""

  definition: ModelDefinition
  clients: list[support.Client]
  store: ClientStore
  references: list[ClientReference]
  events: tuple[schedules.AdjustmentEvent, ...]
  start: states.ServerState

  def built(self, strategy):
    return rounds.RoundBuilder(
      self.definition, self.store, _CONFIG, strategy, self.events,
      active_count=sum(_COUNTS), seed=3,
    )  # fmt: skip

  def run(self, builder, state, number):
    instruction = builder.instruction(number, 0.05)
    result, metrics = builder.computation(number).run(
      state, self.references, instruction
    )
    return result, tasks.Metrics(*map(float, metrics[:3]))


@pytest.fixture(name="setting", scope="module")
def fixture_setting(tmp_path_factory):
  generator = np.random.default_rng(5)
  clients = [
    support.Client(
      support.random_part(generator, n, (4, 4, 1), 3),
      support.random_part(generator, 2, (4, 4, 1), 3),
    )
    for n in (6, 8)
  ]
  store, references = support.write_store(
    tmp_path_factory.mktemp("fedmef") / "records", clients
  )
  found = support.small_cnn()
  spec = schedules.GRANULARITIES["entire"](found.spec)
  found = dataclasses.replace(found, spec=spec)
  strategy = fedmef.FedMef()
  config = PruningConfig(
    0.37, 4, adjust_every_rounds=_EVENT, adjust_until_round=_EVENT + 1
  )
  return Setting(
    found, clients, store, references,
    strategy.plan_events(spec, _COUNTS, config),
    support.make_state(
      support.random_weights(found), support.random_mask(found, _COUNTS)
    ),
  )  # fmt: skip


@pytest.fixture(name="history", scope="module")
def fixture_history(setting):
  """States before the first round and after each of four, and the metrics."""
  builder = setting.built(fedmef.FedMef())
  found = [(setting.start, None)]
  for number in range(4):
    found.append(setting.run(builder, found[-1][0], number))
  return found


def test_densities_are_exact_and_weights_finite(setting, history):
  assert [event.round_index for event in setting.events] == [_EVENT]
  spec = setting.definition.spec
  for state, _ in history:
    assert spec.active_counts(np.asarray(state.mask)) == _COUNTS
    assert not np.asarray(state.weights.prunable)[~np.asarray(state.mask)].any()
    for part in state.weights:
      assert np.isfinite(part).all()


def test_the_event_moves_as_many_as_planned(setting, history):
  spec = setting.definition.spec
  masks = [np.asarray(state.mask) for state, _ in history]
  for number in (0, 1, 3):
    np.testing.assert_array_equal(masks[number], masks[number + 1])
  before, after = masks[_EVENT], masks[_EVENT + 1]
  assert spec.active_counts(after & ~before) == setting.events[0].counts
  grown = np.asarray(history[_EVENT + 1][0].weights.prunable)[after & ~before]
  assert not grown.any()


def _decode(part, places):
  return tf.gather(part.features, places), tf.gather(part.labels, places)


def test_clients_train_as_a_trainer_with_the_penalty_does(setting, history):
  state, number = history[1][0], 1
  definition = setting.definition
  strategy = fedmef.FedMef()
  rule = strategy.client_penalty(definition.spec, setting.events)
  assert rule is not None
  mask = tf.constant(state.mask)
  weights = tfmot_masking.ModelWeights(*map(tf.constant, state.weights))
  results, shares = [], []
  for number_of, client in enumerate(setting.clients):
    trainer = training.LocalTrainer(
      definition, _CONFIG, functools.partial(_decode, client.training),
      tfmot_masking.MaskedModel(definition, layer_transform=strategy.layer_transform),
      rule(weights.prunable, mask, tf.constant(number)),
    )  # fmt: skip
    count = len(client.training.labels)
    examples = batches.shuffled(
      tf.range(count), 1,
      client_work.client_seed(3, tf.constant(number), tf.constant(number_of)),
    )  # fmt: skip
    trained, _ = trainer.train(weights, mask, examples, tf.constant(0.05))
    results.append(trained.prunable.numpy())
    shares.append(count)
  expected = np.average(results, axis=0, weights=shares)
  found = history[number + 1][0].weights.prunable
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_penalty_pushes_out_what_the_event_drops(setting, history):
  class WithoutPenalty(fedmef.FedMef):
    def client_penalty(self, spec, events):
      return None

  state = history[1][0]
  spec = setting.definition.spec
  marked = np.concatenate(
    fedmef.mark_smallest(
      tf.constant(state.weights.prunable), tf.constant(state.mask),
      tf.constant(setting.events[0].counts), spec,
    )
  )  # fmt: skip
  pushed = history[2][0].weights.prunable
  other, metrics = setting.run(setting.built(WithoutPenalty()), state, 1)
  assert np.linalg.norm(pushed[marked]) < np.linalg.norm(other.weights.prunable[marked])
  # What is reported is the loss without it, of the first step the same.
  assert metrics.examples == history[2][1].examples
  assert metrics.loss_sum == pytest.approx(history[2][1].loss_sum, rel=1e-2)
