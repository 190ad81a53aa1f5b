"""Tests of the federated round: by hand, against references, and its invariants."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import batches, optimizers, schedules, training
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.federated import client_work, messages, rounds, states
from fedtiny_tff.models.definition import ModelDefinition
from fedtiny_tff.strategies import base, fedtiny
from fedtiny_tff.strategies.pruning_config import PruningConfig
from fedtiny_tff.tfmot_masking import ModelWeights
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

MODEL_TAIL = (
  "dense=float32[{1}],batch_norm_mean=float32[{2}],batch_norm_variance=float32[{2}]"
)
STATE = (
  "<model=<active_values=float32[{0}],positions=uint8[{3}],"
  f"{MODEL_TAIL}>,round_index=int32,memory=<>,aggregation=<>>@SERVER"
)
REFERENCES = (
  "{{<client=int64,first_record=int64,training_examples=int64,"
  "development_examples=int64>}}@CLIENTS"
)
ROUND = (
  f"(<state={STATE},clients={REFERENCES},instruction=<round_index=int32,"
  f"learning_rate=float32,counts=int32[{{4}}]>@SERVER> -> <{STATE},"
  "<metrics=<loss_sum=float32,correct=float32,examples=float32>,verdict=<accepted="
  "float32,not_finite=float32,wrong_count=float32,outlandish=float32>>@SERVER>)"
)


@dataclasses.dataclass(frozen=True)
class Setting:
  """A federation and the rounds built for it."""

  definition: ModelDefinition
  clients: Sequence[support.Client]
  store: ClientStore
  references: list[ClientReference]
  config: training.TrainingConfig
  events: tuple[schedules.AdjustmentEvent, ...]
  active_count: int
  builder: rounds.RoundBuilder

  @property
  def examples(self) -> list[int]:
    return [len(client.training.labels) for client in self.clients]

  def run(self, state, round_index, rate=0.1, references=None, ordinary=False):
    """Runs one round, as an ordinary one if so asked."""
    instruction = self.builder.instruction(round_index, rate)
    computation = self.builder.computation(0 if ordinary else round_index)
    if ordinary:
      instruction = instruction._replace(counts=np.zeros([0], np.int32))
    result, metrics = computation.run(
      state, self.references if references is None else references, instruction
    )
    return result, training.Metrics(*map(float, metrics[:3]))


def make_setting(
  path, model_definition, clients, config, events, active_count, seed=0
) -> Setting:
  store, references = support.write_store(path, clients)
  builder = rounds.RoundBuilder(
    model_definition, store, config, fedtiny.FedTiny(), events,
    active_count=active_count, seed=seed,
  )  # fmt: skip
  return Setting(
    model_definition, clients, store, references, config, tuple(events),
    active_count, builder,
  )  # fmt: skip


def sgd(momentum, epochs, batch_size) -> training.TrainingConfig:
  optimizer = optimizers.OptimizerConfig("sgd", 0.1, momentum)
  return training.TrainingConfig(optimizer, epochs, batch_size)


def nothing(inputs: int) -> support.Part:
  return support.make_part(np.zeros([0, inputs]), [])


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> Setting:
  """One example (2, 0) of class 0 here, three (0, 4) of class 1 there."""
  clients = [
    support.Client(support.make_part([[2, 0]], [0]), nothing(2)),
    support.Client(support.make_part([[0, 4]] * 3, [1] * 3), nothing(2)),
  ]
  return make_setting(
    tmp_path_factory.mktemp("linear") / "records", support.linear_model(), clients,
    sgd(0.0, 1, 8), [schedules.AdjustmentEvent(1, 0, (1,))], 2,
  )  # fmt: skip


@pytest.fixture(scope="module")
def zeros() -> states.ServerState:
  """All weights 0; kernel [[active, pruned], [pruned, active]]."""
  weights = ModelWeights(*(np.zeros(size, np.float32) for size in (4, 2, 0, 0)))
  return support.make_state(weights, np.array([True, False, False, True]))


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory) -> Setting:
  """Two clients of 3 and 5 examples; an event in the hidden layer at round 1."""
  generator = np.random.default_rng(7)
  clients = [
    support.Client(support.random_part(generator, n, (3,), 2), nothing(3))
    for n in (3, 5)
  ]
  return make_setting(
    tmp_path_factory.mktemp("perceptron") / "records", support.perceptron(), clients,
    sgd(0.0, 1, 8), [schedules.AdjustmentEvent(1, 0, (3,))], 7 + 5,
  )  # fmt: skip


CNN_COUNTS = (16, 10, 8, 6)
CNN_RATE = 0.05


@pytest.fixture(scope="module")
def cnn_setting(tmp_path_factory):
  """Makes the convolutional setting with a seed; batches of 4, two epochs."""

  def make(seed) -> Setting:
    generator = np.random.default_rng(3)
    clients = [
      support.Client(
        support.random_part(generator, n, (4, 4, 1), 3),
        support.random_part(generator, 2, (4, 4, 1), 3),
      )
      for n in (6, 9, 5)
    ]
    model_definition = support.small_cnn()
    plan = PruningConfig(
      target_density=0.32, rounds=10, adjust_every_rounds=1, adjust_until_round=8
    )
    events = fedtiny.FedTiny().plan_events(model_definition.spec, CNN_COUNTS, plan)
    return make_setting(
      tmp_path_factory.mktemp("cnn") / "records", model_definition, clients,
      sgd(0.9, 2, 4), events, sum(CNN_COUNTS), seed,
    )  # fmt: skip

  return make


@pytest.fixture(scope="module")
def cnn(cnn_setting) -> Setting:
  return cnn_setting(0)


@pytest.fixture(scope="module")
def cnn_start(cnn) -> states.ServerState:
  return support.make_state(
    support.random_weights(cnn.definition),
    support.random_mask(cnn.definition, CNN_COUNTS),
  )


@dataclasses.dataclass(frozen=True)
class Step:
  """A round that was run, and the same round without its adjustment."""

  round_index: int
  event: schedules.AdjustmentEvent | None
  before: states.ServerState
  after: states.ServerState
  metrics: training.Metrics
  unadjusted: states.ServerState
  unadjusted_metrics: training.Metrics


@pytest.fixture(scope="module")
def history(cnn, cnn_start) -> list[Step]:
  """Ten rounds in a row, each starting where the last one ended."""
  steps, state = [], cnn_start
  for r in range(10):
    unadjusted, unadjusted_metrics = cnn.run(state, r, CNN_RATE, ordinary=True)
    after, metrics = cnn.run(state, r, CNN_RATE)
    event = cnn.builder.event(r)
    steps.append(
      Step(r, event, state, after, metrics, unadjusted, unadjusted_metrics)
    )
    state = after
  return steps


class TestTypes:
  def test_ordinary_round(self, cnn):
    found = cnn.builder.computation(0).next.type_signature.compact_representation()
    assert found == ROUND.format(40, 41, 10, 16, 0)

  @pytest.mark.parametrize(
    ("round_index", "block", "layers"), [(1, 2, 2), (2, 1, 1), (3, 0, 1)]
  )
  def test_event_round_of_each_block(self, cnn, round_index, block, layers):
    assert cnn.builder.event(round_index).block == block
    computation = cnn.builder.computation(round_index)
    found = computation.next.type_signature.compact_representation()
    assert found == ROUND.format(40, 41, 10, 16, layers)

  def test_model_without_batch_norm(self, linear):
    found = linear.builder.computation(0).next.type_signature
    assert found.compact_representation() == ROUND.format(2, 2, 0, 1, 0)

  def test_state_and_reference(self, cnn):
    found = cnn.builder.state_type(0).compact_representation()
    assert found + "@SERVER" == STATE.format(40, 41, 10, 16)
    found = messages.reference_type().compact_representation()
    assert "{" + found + "}@CLIENTS" == REFERENCES.format()

  def test_each_computation_is_built_once(self, cnn):
    at = [cnn.builder.computation(r) for r in range(10)]
    assert at[0] is at[8] is at[9]
    assert at[1] is at[4] is at[7]
    assert at[2] is at[5]
    assert at[3] is at[6]
    assert len({id(c) for c in at}) == 4


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

  def test_events_reserve_the_largest_count_of_their_block(self, cnn):
    # Events 1, 4 and 7 adjust block 2; the cosine makes the first the largest.
    counts = {r: cnn.builder.event(r).counts for r in (1, 4, 7)}
    assert counts[1] >= counts[4] >= counts[7]
    ordinary = cnn.builder.computation(0)
    assert ordinary.download_bytes == (4 * 40 + 16 + 4 * 41 + 2 * 4 * 10) + 8
    assert ordinary.upload_bytes == (4 * 40 + 4 * 41 + 2 * 4 * 10) + 4 + 12
    event = cnn.builder.computation(7)
    assert event.download_bytes == ordinary.download_bytes + 4 * 2
    assert event.upload_bytes == ordinary.upload_bytes + 8 * sum(counts[1])

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
    np.testing.assert_allclose(
      state.weights.dense, [-0.025, 0.025], rtol=0, atol=1e-8
    )
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
    np.testing.assert_allclose(
      state.weights.dense, [-0.025, 0.025], rtol=0, atol=1e-8
    )
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


def reference_round(
  setting: Setting, state: states.ServerState, round_index: int, rate: float
) -> tuple[states.ServerState, list[np.ndarray], float]:
  """The round without its adjustment, its clients' gradients, its summed loss."""
  plain = support.PlainModel(setting.definition)
  results = []
  for number, client in enumerate(setting.clients):
    client_number = tf.constant(number, tf.int64)
    seed = client_work.client_seed(0, tf.constant(round_index), client_number)
    records = tf.zeros([len(client.training.labels), 1])
    order = batches.shuffled(records, setting.config.local_epochs, seed).order.numpy()
    steps = [
      epoch[i : i + setting.config.batch_size]
      for epoch in order
      for i in range(0, len(epoch), setting.config.batch_size)
    ]
    momentum = setting.config.optimizer.momentum
    results.append(
      support.train_reference(plain, state, client.training, steps, rate, momentum)
    )
  weights = support.average_reference([r.weights for r in results], setting.examples)
  merged = states.ServerState(weights, state.mask, state.round_index + 1)
  return merged, [r.gradient for r in results], sum(r.loss_sum for r in results)


class TestEqualsDenseReference:
  """Every round of the history against dense masked FedAvg in plain TensorFlow."""

  @pytest.mark.parametrize("round_index", [0, 1, 2, 3, 6, 9])
  def test_round(self, cnn, history, round_index):
    step = history[round_index]
    wanted, gradients, loss_sum = reference_round(
      cnn, step.before, round_index, CNN_RATE
    )
    for name, vector in wanted.weights._asdict().items():
      np.testing.assert_allclose(
        getattr(step.unadjusted.weights, name), vector, rtol=1e-6, atol=1e-6,
        err_msg=name,
      )  # fmt: skip
    assert step.metrics.loss_sum == pytest.approx(loss_sum, rel=1e-5)
    assert step.metrics.examples == 2 * sum(cnn.examples)
    if step.event is None:
      return
    prunable, mask = support.adjust_reference(
      cnn.definition, wanted, gradients, cnn.examples, step.event.block,
      step.event.counts,
    )  # fmt: skip
    np.testing.assert_array_equal(step.after.mask, mask)
    np.testing.assert_allclose(
      step.after.weights.prunable, prunable, rtol=1e-6, atol=1e-6
    )


class TestEvents:
  def test_every_block_is_visited_from_output_to_input(self, history):
    visited = [step.event.block for step in history if step.event]
    assert visited == [2, 1, 0, 2, 1, 0, 2]

  def test_density_stays(self, cnn, history):
    for step in history:
      assert cnn.definition.spec.active_counts(step.after.mask) == CNN_COUNTS

  def test_pruned_weights_are_zero(self, history):
    for step in history:
      assert not np.any(step.after.weights.prunable[~step.after.mask])

  def test_without_event_nothing_is_adjusted(self, history):
    for step in history:
      if step.event is None:
        np.testing.assert_array_equal(step.after.mask, step.before.mask)
        assert support.to_bytes(step.after) == support.to_bytes(step.unadjusted)

  def test_only_the_block_s_layers_change(self, cnn, history):
    spec = cnn.definition.spec
    for step in history:
      block = spec.blocks[step.event.block] if step.event else ()
      for layer in range(len(spec.layers)):
        where = spec.slice(layer)
        same_mask = np.array_equal(step.after.mask[where], step.before.mask[where])
        assert same_mask == (layer not in block), (step.round_index, layer)
        if layer not in block:
          np.testing.assert_array_equal(
            step.after.weights.prunable[where],
            step.unadjusted.weights.prunable[where],
          )

  def test_exactly_the_planned_number_moves(self, cnn, history):
    # Were a dropped weight taken back at once, fewer would move.
    spec = cnn.definition.spec
    for step in history:
      if step.event is None:
        continue
      layers = spec.blocks[step.event.block]
      for layer, count in zip(layers, step.event.counts, strict=True):
        before = step.before.mask[spec.slice(layer)]
        after = step.after.mask[spec.slice(layer)]
        assert count > 0
        assert np.count_nonzero(before & ~after) == count
        assert np.count_nonzero(after & ~before) == count

  def test_grown_weights_are_zero_and_kept_ones_unchanged(self, history):
    for step in history:
      grown = step.after.mask & ~step.before.mask
      kept = step.after.mask & step.before.mask
      assert not np.any(step.after.weights.prunable[grown])
      np.testing.assert_array_equal(
        step.after.weights.prunable[kept], step.unadjusted.weights.prunable[kept]
      )

  def test_grown_weights_are_trained_afterwards(self, history):
    grown_values = [
      following.unadjusted.weights.prunable[step.after.mask & ~step.before.mask]
      for step, following in itertools.pairwise(history)
    ]
    # Not every one: a weight behind a dead ReLU stays where it grew.
    moved = np.concatenate(grown_values) != 0.0
    assert np.count_nonzero(moved) > moved.size / 2

  def test_everything_else_is_as_in_an_ordinary_round(self, history):
    for step in history:
      assert support.to_bytes(step.after.weights[1:]) == support.to_bytes(
        step.unadjusted.weights[1:]
      )
      assert step.metrics == step.unadjusted_metrics
      assert step.after.round_index == step.round_index + 1


class TestBatchNormAggregation:
  @pytest.fixture(scope="class")
  def run(self, tmp_path_factory):
    """Runs one full-batch round on given features; gives mean and variance.

    The computation reads the store's file when it runs, so the file can hold other
    features of the same number each time.
    """
    counts = (4, 16)
    path = tmp_path_factory.mktemp("norm") / "records"
    model_definition = support.normalized_linear_model()

    def clients(features):
      return [
        support.Client(support.make_part(x, np.arange(len(x)) % 2), nothing(2))
        for x in features
      ]

    start = clients([np.zeros([n, 2]) for n in counts])
    setting = make_setting(path, model_definition, start, sgd(0.0, 1, 32), [], 3)

    def run_on(features, mean, variance):
      support.write_store(path, clients(features))
      weights = support.random_weights(model_definition)._replace(
        batch_norm_mean=np.full(2, mean, np.float32),
        batch_norm_variance=np.full(2, variance, np.float32),
      )
      mask = np.array([True, True, False, True])
      state, _ = setting.run(support.make_state(weights, mask), 0)
      return state.weights.batch_norm_mean, state.weights.batch_norm_variance

    return run_on

  def test_variance_between_clients_by_hand(self, run):
    # Channel 0: values -1, 1 here and 9, 11 there: within 1, means 0 and 10 with
    # shares 1/5 and 4/5. Channel 1 is constant: 3 here, -2 there.
    here = [[-1, 3], [1, 3]] * 2
    there = [[9, -2], [11, -2]] * 8
    mean, variance = run([here, there], 0.0, 1.0)
    np.testing.assert_allclose(mean, [8.0, -1.0], rtol=1e-6)
    np.testing.assert_allclose(variance, [1 + 16.0, 4.0], rtol=1e-6)

  def test_equals_moments_of_all_examples(self, run):
    generator = np.random.default_rng(11)
    features = [
      generator.normal([5.0, -3.0], [1.0, 0.2], (4, 2)).astype(np.float32),
      generator.normal([-2.0, -3.5], [0.5, 3.0], (16, 2)).astype(np.float32),
    ]
    mean, variance = run(features, 0.0, 1.0)
    together = np.concatenate(features).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, together.var(axis=0), rtol=1e-5)

  def test_large_mean_small_variance_by_hand(self, run):
    # In units of 1/128 about 30: -1, 1 here and 1, 3 there. Within 1; means 0 and 2
    # with shares 1/5 and 4/5, so 1.6 +- 0.8. All these numbers are exact in float32,
    # while the square of 30 would swallow them.
    unit = 1 / 128
    here = 30 + unit * np.array([[-1, 1], [1, -1]] * 2)
    there = 30 + unit * np.array([[1, 3], [3, 1]] * 8)
    mean, variance = run([here, there], 30.0, unit**2)
    np.testing.assert_allclose(mean, np.full(2, 30 + 1.6 * unit), rtol=1e-6)
    np.testing.assert_allclose(variance, np.full(2, 1.64 * unit**2), rtol=1e-5)

  def test_large_mean_small_variance_drawn(self, run):
    generator = np.random.default_rng(12)
    features = [
      generator.normal(m, 0.01, (n, 2)).astype(np.float32)
      for m, n in ((29.98, 4), (30.01, 16))
    ]
    mean, variance = run(features, 30.0, 1e-4)
    together = np.concatenate(features).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-6)
    # Keras itself has the clients' means and variances in float32 only.
    np.testing.assert_allclose(variance, together.var(axis=0), rtol=1e-3)


class TestReproducibility:
  def test_the_same_round_gives_the_same_bytes(self, cnn, history):
    for step in (history[0], history[1]):
      state, metrics = cnn.run(step.before, step.round_index, CNN_RATE)
      assert support.to_bytes(state) == support.to_bytes(step.after)
      assert metrics == step.metrics

  def test_another_round_gives_another_order(self, cnn, cnn_start):
    first, _ = cnn.run(cnn_start, 0, CNN_RATE)
    second, _ = cnn.run(cnn_start, 9, CNN_RATE)
    assert not np.array_equal(first.weights.prunable, second.weights.prunable)

  def test_another_client_number_gives_another_order(self, cnn, cnn_start):
    client = cnn.references[1]
    runs = [
      cnn.run(cnn_start, 0, CNN_RATE, [client._replace(client=np.int64(number))])[0]
      for number in (1, 1, 2)
    ]
    assert support.to_bytes(runs[0]) == support.to_bytes(runs[1])
    assert not np.array_equal(runs[0].weights.prunable, runs[2].weights.prunable)

  def test_another_seed_gives_another_order(self, cnn_setting, cnn_start, history):
    other, _ = cnn_setting(1).run(cnn_start, 0, CNN_RATE)
    assert not np.array_equal(
      other.weights.prunable, history[0].after.weights.prunable
    )

  def test_order_of_clients_does_not_matter(self, cnn, history):
    for step in (history[0], history[1]):
      state, metrics = cnn.run(
        step.before, step.round_index, CNN_RATE, cnn.references[::-1]
      )
      np.testing.assert_array_equal(state.mask, step.after.mask)
      for found, wanted in zip(state.weights, step.after.weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
      assert metrics.loss_sum == pytest.approx(step.metrics.loss_sum, rel=1e-6)


class TestClientSeed:
  def test_differs_by_seed_round_and_client(self):
    numbers = [0, 1, 2, 2**31 - 1]
    found = {
      tuple(client_work.client_seed(seed, tf.constant(r), tf.constant(c, tf.int64)).numpy())
      for seed in (*numbers, 2**31, 2**40)
      for r in numbers
      for c in numbers
    }
    assert len(found) == 6 * 4 * 4


class TestInfluence:
  def test_records_of_others_change_nothing(self, cnn, cnn_start):
    chosen = [cnn.references[0], cnn.references[2]]
    absent = cnn.references[1]
    for r in (0, 1):
      wanted, metrics = cnn.run(cnn_start, r, CNN_RATE, chosen)
      count = absent.training_examples + absent.development_examples
      with support.overwritten(cnn.store, absent.first_record, count):
        found, same_metrics = cnn.run(cnn_start, r, CNN_RATE, chosen)
      assert support.to_bytes(found) == support.to_bytes(wanted)
      assert same_metrics == metrics

  def test_held_out_records_change_nothing(self, cnn, history):
    held_out = [
      (ref.first_record + ref.training_examples, ref.development_examples)
      for ref in cnn.references
    ]
    for first, count in held_out:
      with support.overwritten(cnn.store, first, count):
        found, _ = cnn.run(history[1].before, 1, CNN_RATE)
      assert support.to_bytes(found) == support.to_bytes(history[1].after)

  def test_own_records_do_change_the_round(self, cnn, history):
    with support.overwritten(cnn.store, cnn.references[1].first_record, 1):
      found, _ = cnn.run(history[0].before, 0, CNN_RATE)
    assert support.to_bytes(found) != support.to_bytes(history[0].after)

  def test_a_client_without_examples_has_no_weight(self, cnn, history):
    empty = cnn.references[1]._replace(training_examples=np.int64(0))
    found, metrics = cnn.run(
      history[0].before, 0, CNN_RATE, [*cnn.references, empty]
    )
    for ours, wanted in zip(found.weights, history[0].after.weights, strict=True):
      np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-6)
    assert metrics == history[0].metrics


class TestStrategyWithoutAdjustment:
  def test_asking_for_a_block_raises(self, linear):
    builder = rounds.RoundBuilder(
      linear.definition, linear.store, linear.config, base.Strategy(),
      linear.events, active_count=4, seed=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="'fedavg' never adjusts masks"):
      builder.computation(1)
