"""Rounds, their instructions and their bytes, worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.training_rounds import client_work, rounds
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, fedtiny
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.training_rounds import round_settings

pytestmark = pytest.mark.usefixtures("local_runtime")


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> round_settings.Setting:
  return round_settings.make_setting(
    tmp_path_factory.mktemp("linear") / "records", support.linear_model(),
    support.linear_clients(), round_settings.sgd(0.0, 1, 8),
    [schedules.AdjustmentEvent(1, 0, (1,))], 2,
  )  # fmt: skip


@pytest.fixture(scope="module")
def zeros() -> states.ServerState:
  """All weights 0; kernel [[active, pruned], [pruned, active]]."""
  weights = ModelWeights(*(np.zeros(size, np.float32) for size in (4, 2, 0, 0)))
  return support.make_state(weights, np.array([True, False, False, True]))


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory) -> round_settings.Setting:
  """Two clients of 3 and 5 examples; an event in the hidden layer at round 1."""
  generator = np.random.default_rng(7)
  nothing = round_settings.nothing(3)
  clients = [
    support.Client(support.random_part(generator, n, (3,), 2), nothing) for n in (3, 5)
  ]
  return round_settings.make_setting(
    tmp_path_factory.mktemp("perceptron") / "records", support.perceptron(), clients,
    round_settings.sgd(0.0, 1, 8), [schedules.AdjustmentEvent(1, 0, (3,))], 7 + 5,
  )  # fmt: skip


class TestTypes:
  def test_model_without_batch_norm(self, linear):
    found = linear.builder.computation(0).next.type_signature
    assert found.compact_representation() == round_settings.ROUND.format(2, 2, 0, 1, 0)


class TestInstruction:
  def test_ordinary(self, linear):
    found = linear.builder.instruction(0, 0.25)
    assert (found.round_index, found.learning_rate) == (0, 0.25)
    assert found.counts.shape == (0,)
    assert found.counts.dtype == np.int32

  def test_event(self, linear):
    found = linear.builder.instruction(1, 0.25)
    assert found.round_index == 1
    np.testing.assert_array_equal(found.counts, [1])


class TestBytes:
  def test_linear_by_hand(self, linear):
    # Down: 2 values, 4 bits, 2 biases, no batch norm; round and rate.
    # Up: 2 values, 2 biases; the weight; three metrics.
    ordinary = linear.builder.computation(0)
    assert ordinary.download_bytes == (8 + 1 + 8) + (4 + 4)
    assert ordinary.upload_bytes == (8 + 8) + 4 + 12
    # An event adds one count on the way down, one (index, value) on the way up.
    event = linear.builder.computation(1)
    assert event.download_bytes == ordinary.download_bytes + 4
    assert event.upload_bytes == ordinary.upload_bytes + 8

  @pytest.mark.parametrize("round_index", [0, 1])
  def test_equal_the_bytes_of_what_travels(self, linear, zeros, round_index):
    event = linear.builder.event(round_index)
    adjustment = event and fedtiny.FedTiny().adjustment(
      base.AdjustmentPlan(linear.definition.spec, event.block, event.counts, 0, 0)
    )
    computation = linear.builder.computation(round_index)
    instruction_type = computation.next.type_signature.parameter.instruction.member
    sizes = ModelWeights(4, 2, 0, 0)
    work = client_work.build_client_work(
      linear.definition, linear.store, linear.config, adjustment, 0,
      (
        messages.model_values_type(sizes, 2), messages.positions_type(sizes, 2),
        instruction_type,
      ),
    )  # fmt: skip
    model = messages.pack_model(zeros.weights, tf.constant(zeros.mask), 2)
    instruction = linear.builder.instruction(round_index, 0.1)
    values = messages.without_positions(model)
    update = work(linear.references[0], values, model.positions, instruction).update

    def payload(value) -> int:
      return sum(leaf.nbytes for leaf in support.leaves(value))

    assert payload((model, instruction)) == computation.download_bytes
    assert payload(update) == computation.upload_bytes


class TestRoundByHand:
  """Zero weights make both classes equally likely, so every logit's gradient is ±1/2.

  Client 0, x = (2, 0), class 0: kernel gradient [[-1, 1], [0, 0]], bias (-1/2, 1/2).
  Client 1, x = (0, 4), class 1: kernel gradient [[0, 0], [2, -2]], bias (1/2, -1/2).
  With rate 0.1 and weights 1/4 and 3/4 the active kernel entries become 0.025 and
  0.15, the biases -0.025 and 0.025.
  """

  def test_averages_masked_steps(self, linear, zeros):
    state, metrics = linear.run(zeros, 0)
    np.testing.assert_allclose(
      state.weights.prunable, [0.025, 0.0, 0.0, 0.15], rtol=0, atol=1e-8
    )
    np.testing.assert_allclose(state.weights.dense, [-0.025, 0.025], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(state.mask, zeros.mask)
    assert state.round_index == 1
    # Four examples at probability 1/2; of equal logits the first class is taken.
    assert metrics.loss_sum == pytest.approx(4 * np.log(2.0), rel=1e-6)
    assert (metrics.correct, metrics.examples) == (1, 4)

  def test_event_drops_and_grows_one(self, linear, zeros):
    # Mean gradients at the pruned positions: 1/4 * 1 at 1, 3/4 * 2 at 2. So 2 grows;
    # of the active weights 0.025 at 0 is smaller, so 0 is dropped.
    state, metrics = linear.run(zeros, 1)
    np.testing.assert_array_equal(state.mask, [False, False, True, True])
    np.testing.assert_allclose(
      state.weights.prunable, [0.0, 0.0, 0.0, 0.15], rtol=0, atol=1e-8
    )
    assert state.weights.prunable[2] == 0.0
    np.testing.assert_allclose(state.weights.dense, [-0.025, 0.025], rtol=0, atol=1e-8)
    assert (metrics.correct, metrics.examples) == (1, 4)

  def test_gradients_count_by_examples(self, linear, zeros):
    # Three copies of client 0 outweigh nothing: 3/6 * 1 at 1, 3/6 * 2 at 2. Seven
    # copies do: 7/10 * 1 at 1 against 3/10 * 2 at 2, and now 0.07 at 0 stays while
    # 0.06 at 3 goes.
    client0, client1 = linear.references
    state, _ = linear.run(zeros, 1, references=[client0] * 3 + [client1])
    np.testing.assert_array_equal(state.mask, [False, False, True, True])
    state, _ = linear.run(zeros, 1, references=[client0] * 7 + [client1])
    np.testing.assert_array_equal(state.mask, [True, True, False, False])
    np.testing.assert_allclose(
      state.weights.prunable, [0.07, 0.0, 0.0, 0.0], rtol=0, atol=1e-8
    )

  def test_dropped_weight_stays_out_even_if_no_gradient_speaks(self, linear, zeros):
    # Client 0 alone, row 0 active: 0.1 and -0.1 tie, so the later one is dropped. No
    # pruned position has a gradient; the first of them grows, not the dropped one.
    mask = np.array([True, True, False, False])
    state, _ = linear.run(
      zeros._replace(mask=mask), 1, references=linear.references[:1]
    )
    np.testing.assert_array_equal(state.mask, [True, False, True, False])
    np.testing.assert_allclose(
      state.weights.prunable, [0.1, 0.0, 0.0, 0.0], rtol=0, atol=1e-8
    )

  def test_learning_rate_is_the_instruction_s(self, linear, zeros):
    state, _ = linear.run(zeros, 0, rate=0.4)
    np.testing.assert_allclose(
      state.weights.prunable, [0.1, 0.0, 0.0, 0.6], rtol=0, atol=1e-7
    )


def perceptron_step(state, part, rate):
  """One masked gradient step on all examples, in NumPy from first principles.

  Returns:
    (hidden kernel, hidden bias, output kernel, output bias) after the step, and the
    dense gradient of the hidden kernel.
  """
  vector = state.weights.prunable.astype(np.float64)
  kernel1, kernel2 = vector[:12].reshape(3, 4), vector[12:].reshape(4, 2)
  mask1, mask2 = state.mask[:12].reshape(3, 4), state.mask[12:].reshape(4, 2)
  bias1, bias2 = np.split(state.weights.dense.astype(np.float64), [4])
  x = part.features.astype(np.float64)
  hidden = x @ kernel1 + bias1
  active = np.maximum(hidden, 0.0)
  logits = active @ kernel2 + bias2
  exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
  softmax = exponents / exponents.sum(axis=1, keepdims=True)
  to_logits = (softmax - np.eye(2)[part.labels]) / len(part.labels)
  to_hidden = (to_logits @ kernel2.T) * (hidden > 0.0)
  gradient1, gradient2 = x.T @ to_hidden, active.T @ to_logits
  stepped = (
    kernel1 - rate * gradient1 * mask1,
    bias1 - rate * to_hidden.sum(axis=0),
    kernel2 - rate * gradient2 * mask2,
    bias2 - rate * to_logits.sum(axis=0),
  )
  return stepped, gradient1


class TestRoundFromFirstPrinciples:
  RATE = 0.5

  @pytest.fixture(scope="class")
  def state(self, perceptron):
    model_definition = perceptron.definition
    return support.make_state(
      support.random_weights(model_definition, 4),
      support.random_mask(model_definition, (7, 5), 4),
    )

  @pytest.fixture(scope="class")
  def wanted(self, perceptron, state):
    """Averaged parameters, and each client's hidden gradient."""
    found = [
      perceptron_step(state, client.training, self.RATE)
      for client in perceptron.clients
    ]
    (first, gradient0), (second, gradient1) = found
    mean = [(3 * a + 5 * b) / 8 for a, b in zip(first, second, strict=True)]
    return mean, (gradient0.ravel(), gradient1.ravel())

  def test_averages(self, perceptron, state, wanted):
    (kernel1, bias1, kernel2, bias2), _ = wanted
    found, _ = perceptron.run(state, 0, self.RATE)
    prunable = np.concatenate([kernel1.ravel(), kernel2.ravel()])
    np.testing.assert_allclose(found.weights.prunable, prunable, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
      found.weights.dense, np.concatenate([bias1, bias2]), rtol=0, atol=1e-6
    )
    # The step must have moved the weights by far more than that tolerance.
    assert np.abs(found.weights.prunable - state.weights.prunable).max() > 1e-2

  def test_event(self, perceptron, state, wanted):
    (kernel1, _, kernel2, _), gradients = wanted
    active = np.flatnonzero(state.mask[:12])
    pruned = np.flatnonzero(~state.mask[:12])
    mean = np.zeros(12)
    for gradient, share in zip(gradients, (3 / 8, 5 / 8), strict=True):
      top = pruned[np.argsort(-np.abs(gradient[pruned]))[:3]]
      mean[top] += share * gradient[top]
    grown = pruned[np.argsort(-np.abs(mean[pruned]))[:3]]
    kept = active[np.argsort(-np.abs(kernel1.ravel()[active]))[:4]]
    found, _ = perceptron.run(state, 1, self.RATE)
    assert set(np.flatnonzero(found.mask[:12])) == {*grown, *kept}
    np.testing.assert_array_equal(found.mask[12:], state.mask[12:])
    prunable = np.zeros(12)
    prunable[kept] = kernel1.ravel()[kept]
    np.testing.assert_allclose(
      found.weights.prunable, [*prunable, *kernel2.ravel()], rtol=0, atol=1e-6
    )


class TestStrategyWithoutAdjustment:
  def test_asking_for_a_block_raises(self, linear):
    builder = rounds.RoundBuilder(
      linear.definition, linear.store, linear.config, base.Strategy(),
      linear.events, active_count=4, seed=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="'fedavg' never adjusts masks"):
      builder.computation(1)
