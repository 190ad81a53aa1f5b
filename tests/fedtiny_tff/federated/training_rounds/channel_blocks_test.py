"""Rounds of models whose masks keep and drop neighbouring output channels together."""

import numpy as np
import pytest

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.training_rounds import client_work, rounds, traffic
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, fedtiny
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.training_rounds.dense_reference import (
  PlainModel,
  average_reference,
  largest,
  train_reference,
)

pytestmark = pytest.mark.usefixtures("local_runtime")

CONFIG = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1, 0.0), 1, 8)
LINEAR_SIZES = ModelWeights(4, 2, 0, 0)
PERCEPTRON_SIZES = ModelWeights(20, 6, 0, 0)


def _blocked(model_definition, channel_block):
  spec = model_definition.spec.with_channel_block(channel_block)
  return type(model_definition)(
    model_definition.name, model_definition.build, spec, model_definition.task
  )


def _builder(model_definition, store, events, active_count):
  return rounds.RoundBuilder(
    model_definition, store, CONFIG, fedtiny.FedTiny(), events,
    active_count=active_count, seed=0,
  )  # fmt: skip


def _run(builder, state, round_index, references):
  instruction = builder.instruction(round_index, 0.1)
  return builder.computation(round_index).run(state, references, instruction)[0]


class TestPairsByHand:
  """Zero weights make both classes equally likely: every logit's gradient is ±1/2.

  One example (2, 0) of class 0 here, three (0, 4) of class 1 there: kernel gradients
  [[-1, 1], [0, 0]] and [[0, 0], [2, -2]]. A pair is a row of the kernel.
  """

  EVENTS = (schedules.AdjustmentEvent(1, 0, (1,)),)
  MASK = np.array([True, True, False, False])

  @pytest.fixture(scope="class")
  def federation(self, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "records"
    return support.write_store(path, support.linear_clients())

  @pytest.fixture(scope="class")
  def start(self):
    zeros = ModelWeights(*(np.zeros(size, np.float32) for size in LINEAR_SIZES))
    return support.make_state(zeros, self.MASK)

  @pytest.fixture(scope="class")
  def builder(self, federation):
    return _builder(_blocked(support.linear_model(), 2), federation[0], self.EVENTS, 2)

  def test_an_ordinary_round_is_as_ever(self, builder, start, federation):
    # Client 0 steps its row to ±0.1, client 1 cannot: weights 1/4 and 3/4.
    state = _run(builder, start, 0, federation[1])
    np.testing.assert_allclose(
      state.weights.prunable, [0.025, -0.025, 0.0, 0.0], rtol=0, atol=1e-8
    )
    np.testing.assert_array_equal(state.mask, self.MASK)

  def test_an_event_moves_a_whole_row(self, builder, start, federation):
    # Mean gradient of row 1: 3/4 * (2, -2). Row 0 goes although it was just trained.
    state = _run(builder, start, 1, federation[1])
    np.testing.assert_array_equal(state.mask, ~self.MASK)
    np.testing.assert_array_equal(state.weights.prunable, np.zeros(4))
    # The biases are averaged all the same.
    np.testing.assert_allclose(state.weights.dense, [-0.025, 0.025], rtol=0, atol=1e-8)

  def test_without_blocks_single_weights_move(self, start, federation):
    builder = _builder(support.linear_model(), federation[0], self.EVENTS, 2)
    state = _run(builder, start, 1, federation[1])
    # ±0.025 and ±1.5 tie: the later of the active goes, the earlier pruned one comes.
    np.testing.assert_array_equal(state.mask, [True, False, True, False])

  def test_the_message_is_an_index_and_two_values(self, builder, federation):
    adjustment = fedtiny.FedTiny().adjustment(
      base.AdjustmentPlan(_blocked(support.linear_model(), 2).spec, 0, (1,), 0, 0)
    )
    work = client_work.build_client_work(
      _blocked(support.linear_model(), 2), federation[0], CONFIG, adjustment, 0,
      (
        messages.model_values_type(LINEAR_SIZES, 2),
        messages.positions_type(LINEAR_SIZES, 2),
        messages.instruction_type(1),
      ),
    )  # fmt: skip
    sent = work.type_signature.result.update.statistics
    assert sent.compact_representation() == "<indices=int32[1],values=float32[2]>"
    ordinary, event = (builder.computation(r).upload_bytes for r in (0, 1))
    assert event == ordinary + 4 + 2 * 4


def _dense_event(model, start, clients, kept_groups, moved):
  """Returns the hidden layer's weights, and which groups stay and which grow."""
  plain = PlainModel(model)
  results = [
    train_reference(
      plain, start, client.training, [np.arange(len(client.training.labels))], 0.1, 0.0
    )
    for client in clients
  ]
  hidden = average_reference([r.weights for r in results], [3, 5]).prunable[:12]
  active = np.flatnonzero(kept_groups)
  pruned = np.flatnonzero(~kept_groups)
  mean = np.zeros([kept_groups.size, 12 // kept_groups.size])
  for result, share in zip(results, (3 / 8, 5 / 8), strict=True):
    gradient = result.gradient[:12].reshape(mean.shape)
    top = pruned[largest(np.linalg.norm(gradient[pruned], axis=1), moved)]
    mean[top] += share * gradient[top]
  grown = pruned[largest(np.linalg.norm(mean[pruned], axis=1), moved)]
  norms = np.linalg.norm(hidden.reshape(mean.shape)[active], axis=1)
  kept = active[largest(norms, len(active) - moved)]
  return hidden, kept, grown


@pytest.mark.parametrize(("channel_block", "moved"), [(1, 3), (2, 2), (4, 1)])
def test_an_event_equals_the_dense_reference(tmp_path, channel_block, moved):
  """A hidden layer of 3 × 4: 12 weights, 6 pairs or 3 fours."""
  generator = np.random.default_rng(7)
  nothing = support.make_part(np.zeros([0, 3]), [])
  clients = [
    support.Client(support.random_part(generator, n, (3,), 2), nothing) for n in (3, 5)
  ]
  store, references = support.write_store(tmp_path / "records", clients)
  model = _blocked(support.perceptron(), channel_block)
  assert model.spec.channel_blocks == (channel_block, min(channel_block, 2))
  kept_groups = generator.permutation(12 // channel_block) < 8 // channel_block
  mask = np.concatenate([np.repeat(kept_groups, channel_block), np.ones(8, bool)])
  start = support.make_state(support.random_weights(model, 4), mask)
  events = (schedules.AdjustmentEvent(1, 0, (moved,)),)
  builder = _builder(model, store, events, 16)

  found = _run(builder, start, 1, references)

  hidden, kept, grown = _dense_event(model, start, clients, kept_groups, moved)
  wanted = np.zeros(12 // channel_block, bool)
  wanted[[*grown, *kept]] = True
  np.testing.assert_array_equal(found.mask[:12], np.repeat(wanted, channel_block))
  np.testing.assert_array_equal(found.mask[12:], mask[12:])
  wanted[grown] = False
  np.testing.assert_allclose(
    found.weights.prunable[:12],
    np.where(np.repeat(wanted, channel_block), hidden, 0.0),
    rtol=0,
    atol=1e-6,
  )

  # What a client sends is predicted from the types alone, and right by hand.
  predicted = traffic.round_traffic(
    PERCEPTRON_SIZES, model.spec, 16, fedtiny.FedTiny(), events
  )
  event_bytes = builder.computation(1).upload_bytes
  assert predicted.adjust_upload_bytes == event_bytes
  assert event_bytes == predicted.upload_bytes + moved * (4 + 4 * channel_block)
