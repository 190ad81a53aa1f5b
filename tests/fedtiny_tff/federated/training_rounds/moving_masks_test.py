"""Rounds of the compared methods that move masks, against plain references.

Perceptron of 12 + 8 prunable weights, two clients of 3 and 5 examples. Every step is on
all examples of a client, without momentum, two steps a round; an event at round 1.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated.training_rounds import rounds, traffic
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure.definition import ModelDefinition
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, fedrts, registry
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.training_rounds.dense_reference import (
  PlainModel,
  adjust_reference,
  average_reference,
  largest,
  train_reference,
)

pytestmark = pytest.mark.usefixtures("local_runtime")

RATE, STEPS = 0.5, 2
EXAMPLES = (3, 5)
SIZES = ModelWeights(20, 6, 0, 0)
COUNTS = (7, 5)
MOVED = (3, 2)
GROWING = (schedules.AdjustmentEvent(1, 0, MOVED),)
SHRINKING = tuple(
  schedules.AdjustmentEvent(number, 0, MOVED, grows=False) for number in (1, 2)
)
# A bit for each of 20 weights.
POSITION_BYTES = 3


class Federation(NamedTuple):
  """Clients, where they are stored, and the model in one block."""

  parts: list[support.Part]
  store: support.ClientStore
  references: list[support.ClientReference]
  model: ModelDefinition


@pytest.fixture(name="federation", scope="module")
def fixture_federation(tmp_path_factory):
  generator = np.random.default_rng(5)
  parts = [support.random_part(generator, n, (3,), 2) for n in EXAMPLES]
  nothing = support.make_part(np.zeros([0, 3]), [])
  path = tmp_path_factory.mktemp("moving") / "records"
  stored = support.write_store(path, [support.Client(part, nothing) for part in parts])
  model = support.perceptron()
  entire = schedules.GRANULARITIES["entire"](model.spec)
  return Federation(parts, *stored, dataclasses.replace(model, spec=entire))


def _start(federation, method="fedavg", counts=COUNTS):
  weights = support.random_weights(federation.model, 4)
  mask = support.random_mask(federation.model, counts, 1)
  memory = registry.get_strategy(method).initial_memory(mask)
  return support.make_state(weights, mask)._replace(memory=memory)


def _builder(federation, method, events, start):
  config = training.TrainingConfig(
    optimizers.OptimizerConfig("sgd", RATE, 0.0), STEPS, 8
  )
  return rounds.RoundBuilder(
    federation.model, federation.store, config, registry.get_strategy(method), events,
    active_count=int(start.mask.sum()), seed=9, memory=start.memory,
  )  # fmt: skip


def _run(federation, builder, start, count=3):
  """Returns the state before the first round, and after each."""
  states = [start]
  for number in range(count):
    computation = builder.computation(number)
    instruction = builder.instruction(number, RATE)
    states.append(computation.run(states[-1], federation.references, instruction)[0])
  return states


def _steps(federation, state, part, count=STEPS):
  """Returns what a client ends with after each of its steps."""
  plain, results = PlainModel(federation.model), []
  for _ in range(count):
    results.append(
      train_reference(plain, state, part, [np.arange(len(part.labels))], RATE, 0.0)
    )
    state = state._replace(weights=results[-1].weights)
  return results


def _averaged(federation, state):
  """Returns each client's steps, and the state with the mean of what they end with."""
  clients = [_steps(federation, state, part) for part in federation.parts]
  mean = average_reference([steps[-1].weights for steps in clients], EXAMPLES)
  return clients, state._replace(weights=mean)


def _check_ordinary(federation, before, after):
  _, wanted = _averaged(federation, before)
  np.testing.assert_array_equal(after.mask, before.mask)
  np.testing.assert_allclose(after.weights.prunable, wanted.weights.prunable, atol=1e-6)


def _layers(federation):
  spec = federation.model.spec
  return [np.arange(spec.size)[spec.slice(i)] for i in range(len(spec.layers))]


class TestPruneFL:
  @pytest.fixture(name="states", scope="class")
  def fixture_states(self, federation):
    start = _start(federation)
    return _run(federation, _builder(federation, "prunefl", GROWING, start), start)

  def test_the_event_equals_the_reference(self, federation, states):
    clients, averaged = _averaged(federation, states[1])
    squares = [np.mean([s.gradient**2 for s in steps], 0) for steps in clients]
    mean = np.average(squares, 0, EXAMPLES)
    prunable, mask = np.array(averaged.weights.prunable), np.zeros(20, bool)
    for where, moved in zip(_layers(federation), MOVED, strict=True):
      active = where[states[1].mask[where]]
      pruned = where[~states[1].mask[where]]
      mask[active[largest(np.abs(prunable[active]), len(active) - moved)]] = True
      mask[pruned[largest(mean[pruned], moved)]] = True
    np.testing.assert_array_equal(states[2].mask, mask)
    kept = np.where(mask & states[1].mask, prunable, 0.0)
    np.testing.assert_allclose(states[2].weights.prunable, kept, atol=1e-6)

  def test_other_rounds_train(self, federation, states):
    _check_ordinary(federation, *states[:2])
    _check_ordinary(federation, *states[2:])


class TestFedDST:
  @pytest.fixture(name="builder", scope="class")
  def fixture_builder(self, federation):
    return _builder(federation, "feddst", GROWING, _start(federation))

  @pytest.fixture(name="states", scope="class")
  def fixture_states(self, federation, builder):
    return _run(federation, builder, _start(federation))

  def own(self, federation, state, part):
    """Returns a client's model and mask: moved after one of two steps."""
    (first,) = _steps(federation, state, part, 1)
    trained = state._replace(weights=first.weights)
    prunable, mask = adjust_reference(
      federation.model, trained, [first.gradient], [1], 0, MOVED
    )
    weights = first.weights._replace(prunable=prunable.astype(np.float32))
    (last,) = _steps(federation, trained._replace(weights=weights, mask=mask), part, 1)
    return last.weights, mask

  def test_the_event_equals_the_reference(self, federation, states):
    own = [self.own(federation, states[1], part) for part in federation.parts]
    masks = np.stack([mask for _, mask in own])
    shares = np.asarray(EXAMPLES)[:, np.newaxis] * masks
    sums = np.sum([w.prunable * s for (w, _), s in zip(own, shares, strict=True)], 0)
    averages = sums / np.maximum(shares.sum(0), 1e-9)
    mask = np.zeros(20, bool)
    for where, kept in zip(_layers(federation), COUNTS, strict=True):
      held = where[masks.any(0)[where]]
      mask[held[largest(np.abs(averages[held]), kept)]] = True
    np.testing.assert_array_equal(states[2].mask, mask)
    found = states[2].weights
    np.testing.assert_allclose(found.prunable, np.where(mask, averages, 0), atol=1e-6)
    # Clients went apart, and what is not prunable is averaged as ever.
    assert (masks[0] != masks[1]).any()
    rest = average_reference([weights for weights, _ in own], EXAMPLES)
    np.testing.assert_allclose(found.dense, rest.dense, atol=1e-6)

  def test_other_rounds_train(self, federation, states):
    _check_ordinary(federation, *states[:2])
    _check_ordinary(federation, *states[2:])

  def test_the_message_is_values_and_positions(self, builder):
    work = builder._client_work(rounds._Key(0, 12, 12)).computation.type_signature
    sent = work.result.update.statistics.compact_representation()
    assert sent == f"<values=float32[12],positions=uint8[{POSITION_BYTES}]>"
    assert work.result.update.model.active_values.shape == (0,)
    ordinary, event = (builder.computation(number) for number in (0, 1))
    assert event.upload_bytes == ordinary.upload_bytes + POSITION_BYTES
    assert event.download_bytes == ordinary.download_bytes + 4 * len(MOVED)


class TestFedRTS:
  @pytest.fixture(name="builder", scope="class")
  def fixture_builder(self, federation):
    return _builder(federation, "fedrts", GROWING, _start(federation, "fedrts"))

  @pytest.fixture(name="states", scope="class")
  def fixture_states(self, federation, builder):
    return _run(federation, builder, _start(federation, "fedrts"))

  def votes(self, federation, state, weights, gradient=None):
    """Marks the K - a largest weights; with a gradient, the a largest of pruned too."""
    marked = np.zeros(20)
    for where, moved in zip(_layers(federation), MOVED, strict=True):
      active, pruned = where[state.mask[where]], where[~state.mask[where]]
      kept = largest(np.abs(weights[active]), len(active) - moved)
      marked[active[kept]] = 1.0
      if gradient is not None:
        marked[pruned[largest(np.abs(gradient[pruned]), moved)]] = 1.0
    return marked

  def test_outcomes_equal_the_reference(self, federation, states):
    before = states[1]
    clients, averaged = _averaged(federation, before)
    votes = [
      self.votes(federation, before, steps[-1].weights.prunable, steps[-1].gradient)
      for steps in clients
    ]
    assert [vote.sum() for vote in votes] == [12, 12]
    seen = self.votes(federation, before, averaged.weights.prunable)
    seen[~before.mask] = 0.5
    outcome = 0.5 * seen + 0.5 * np.average(votes, 0, EXAMPLES)
    alpha, beta = states[2].memory
    np.testing.assert_allclose(alpha, 1 + 10 * outcome, rtol=1e-6)
    np.testing.assert_allclose(beta, 1 + 10 * (1 - outcome), rtol=1e-6)

  def test_the_mask_is_drawn_from_what_is_remembered(self, federation, states):
    alpha, beta = map(tf.constant, states[2].memory)
    plan = base.AdjustmentPlan(federation.model.spec, 0, MOVED, 9, 12)
    adjustment = fedrts.FedRTS().adjustment(plan)
    drawn = adjustment.draw(alpha, beta, tf.constant(states[1].mask), tf.constant(1))
    np.testing.assert_array_equal(states[2].mask, drawn)
    assert federation.model.spec.active_counts(states[2].mask) == COUNTS
    _, averaged = _averaged(federation, states[1])
    kept = states[2].mask & states[1].mask
    wanted = np.where(kept, averaged.weights.prunable, 0.0)
    np.testing.assert_allclose(states[2].weights.prunable, wanted, atol=1e-6)

  def test_other_rounds_train_and_remember(self, federation, states):
    _check_ordinary(federation, *states[:2])
    _check_ordinary(federation, *states[2:])
    for first, second in ((0, 1), (2, 3)):
      for before, after in zip(
        states[first].memory, states[second].memory, strict=True
      ):
        np.testing.assert_array_equal(before, after)

  def test_the_message_is_positions_only(self, builder):
    work = builder._client_work(rounds._Key(0, 12, 12)).computation.type_signature
    sent = work.result.update.statistics.compact_representation()
    assert sent == f"<positions=uint8[{POSITION_BYTES}]>"
    ordinary, event = (builder.computation(number) for number in (0, 1))
    assert event.upload_bytes == ordinary.upload_bytes + POSITION_BYTES

  def test_the_same_round_draws_the_same(self, federation, builder, states):
    again = _run(federation, builder, _start(federation, "fedrts"), 2)
    assert support.to_bytes(again[2]) == support.to_bytes(states[2])


class TestLotteryFL:
  @pytest.fixture(name="builder", scope="class")
  def fixture_builder(self, federation):
    return _builder(
      federation, "lotteryfl", SHRINKING, _start(federation, counts=(12, 8))
    )

  @pytest.fixture(name="states", scope="class")
  def fixture_states(self, federation, builder):
    return _run(federation, builder, _start(federation, counts=(12, 8)), 4)

  @pytest.mark.parametrize("number", [1, 2])
  def test_each_event_equals_the_reference(self, federation, states, number):
    before, after = states[number], states[number + 1]
    _, averaged = _averaged(federation, before)
    prunable, mask = averaged.weights.prunable, np.zeros(20, bool)
    for where, moved in zip(_layers(federation), MOVED, strict=True):
      active = where[before.mask[where]]
      mask[active[largest(np.abs(prunable[active]), len(active) - moved)]] = True
    np.testing.assert_array_equal(after.mask, mask)
    np.testing.assert_allclose(
      after.weights.prunable, np.where(mask, prunable, 0.0), atol=1e-6
    )

  def test_other_rounds_train(self, federation, states):
    assert states[1].mask.all()
    _check_ordinary(federation, *states[:2])
    _check_ordinary(federation, *states[3:])

  def test_messages_are_the_model(self, builder):
    sizes = [builder.computation(number).upload_bytes for number in range(4)]
    dense = 4 * (20 + 6) + 4 + 12
    assert sizes == [dense, dense, dense - 4 * 5, dense - 4 * 10]


@pytest.mark.parametrize(
  ("method", "events", "counts"),
  [
    ("prunefl", GROWING, COUNTS),
    ("feddst", GROWING, COUNTS),
    ("fedrts", GROWING, COUNTS),
    ("lotteryfl", SHRINKING, (12, 8)),
  ],
)
def test_predicted_bytes_are_those_of_the_rounds_that_are_built(
  federation, method, events, counts
):
  builder = _builder(federation, method, events, _start(federation, method, counts))
  found = traffic.round_traffic(
    SIZES, federation.model.spec, sum(counts), registry.get_strategy(method), events
  )
  ordinary, event = (builder.computation(number) for number in (0, 1))
  assert found.download_bytes == ordinary.download_bytes
  assert found.position_bytes == ordinary.position_bytes
  assert found.upload_bytes == ordinary.upload_bytes
  assert found.adjust_upload_bytes == event.upload_bytes


@pytest.mark.parametrize("method", ["prunefl", "feddst", "fedrts", "lotteryfl"])
def test_groups_of_channels_stay_whole(federation, method):
  spec = federation.model.spec.with_channel_block(2)
  blocked = federation._replace(model=dataclasses.replace(federation.model, spec=spec))
  grows = method != "lotteryfl"
  # Pairs: 4 of 6 and 2 of 4 are active, or all.
  kept = (4, 2) if grows else (6, 4)
  mask = np.concatenate(
    [
      np.repeat(np.arange(layer.groups) < count, 2)
      for layer, count in zip(spec.layers, kept, strict=True)
    ]
  )
  memory = registry.get_strategy(method).initial_memory(mask)
  weights = support.random_weights(blocked.model, 4)
  start = support.make_state(weights, mask)._replace(memory=memory)
  events = (schedules.AdjustmentEvent(1, 0, (2, 1), grows=grows),)
  found = _run(blocked, _builder(blocked, method, events, start), start, 2)[-1]
  left = np.subtract(spec.active_counts(mask), events[0].removed(spec))
  assert spec.active_counts(found.mask) == tuple(left)
  pairs = found.mask.reshape(-1, 2)
  assert (pairs == pairs[:, :1]).all()
  assert (found.mask != mask).any()
  assert not found.weights.prunable[~found.mask].any()
