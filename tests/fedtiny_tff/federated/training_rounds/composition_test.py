"""How a round is wired, around clients whose work is an addition.

A client of shift s and weight w adds s to each of its values; it sends batch norm as it
would be of inputs that lie s higher, and votes for the third weight with s, for the
fourth with -2 s.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated import aggregation as aggregation_lib
from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.training_rounds import composition
from fedtiny_tff.federated.training_rounds.client_work import ClientWork
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection import guards
from fedtiny_tff.protection.aggregation_config import WEIGHTED_MEAN, Aggregation
from fedtiny_tff.protection.secure_config import BITWIDTH, SecureSums
from fedtiny_tff.strategies.adjustment import ServerAdjustment
from fedtiny_tff.strategies.fedtiny import TopGradients
from fedtiny_tff.tasks import Metrics
from tests.fedtiny_tff.federated import made_reports, support
from tests.fedtiny_tff.support import floats

pytestmark = pytest.mark.usefixtures("local_runtime")

# Of four weights two are active; a bias; a channel of batch norm.
SIZES = ModelWeights(4, 1, 1, 1)
FIRST_TWO = np.array([0xC0], np.uint8)
VOTES = made_reports.top_gradients()
ONE = tff.TensorType(np.float32)


class Client(NamedTuple):
  """What a client is told beside the model.

  Attributes:
    shift: What it adds.
    weight: Its examples; without any it does not count.
  """

  shift: Any
  weight: Any


def _work(adjustment=None) -> ClientWork:
  votes = adjustment is not None and bool(adjustment.statistics_specs())
  sends_values = adjustment is None or not adjustment.replaces_weights

  @tff.tensorflow.computation(
    tff.types.to_type(Client(ONE, ONE)),
    messages.model_values_type(SIZES, 2),
    messages.positions_type(SIZES, 2),
    messages.instruction_type(0 if adjustment is None else 1),
  )
  def work(client: Client, values: Any, positions: Any, instruction: Any) -> Any:
    shift = client.shift
    model = messages.TrainedModel(
      values.active_values + shift if sends_values else tf.zeros([0]),
      values.dense + instruction.learning_rate,
      tf.fill([1], shift),
      values.batch_norm_variance + shift**2,
    )
    # What it was told of the mask is seen in the sums.
    seen = tf.reduce_sum(tf.cast(positions, tf.float32))
    sent: Any = ()
    if votes:
      sent = TopGradients(tf.constant([2, 3]), tf.stack([shift, -2.0 * shift]))
    update = messages.ClientUpdate(
      model, client.weight, Metrics(shift, seen, client.weight), sent
    )
    true = tf.constant(True)
    verdict = guards.judge(client.weight > 0.0, true, true)
    return messages.ClientReport(guards.blank_unless(verdict.accepted, update), verdict)

  return ClientWork(work, adjustment)


def _compose(adjustment=None, kept=None, memory=(), active_after=2, **options):
  state_type = states.sparse_state_type(SIZES, 2, memory, kept)
  return composition.compose(_work(adjustment), state_type, 4, active_after, **options)


def _state(positions=FIRST_TWO, memory=(), aggregation=()) -> states.SparseState:
  model = messages.SparseModel(
    floats([1, 2]), positions, floats([5]), floats([0.5]), floats([4])
  )
  return states.SparseState(model, np.int32(7), memory, aggregation)


def _run(composed, clients, state=None, counts=()):
  instruction = messages.RoundInstruction(
    np.int32(7), np.float32(0.25), np.array(counts, np.int32)
  )
  sent = [Client(*map(np.float32, each)) for each in clients]
  return composed(state or _state(), sent, instruction)


@pytest.fixture(scope="module", name="plain")
def fixture_plain():
  return _compose()


STATE = (
  "<model=<active_values=float32[2],positions=uint8[1],dense=float32[1],"
  "batch_norm_mean=float32[1],batch_norm_variance=float32[1]>,round_index=int32,"
  "memory=<>,aggregation=<>>@SERVER"
)
SUMS = (
  "<metrics=<loss_sum=float32,correct=float32,examples=float32>,verdict=<accepted="
  "float32,not_finite=float32,wrong_count=float32,outlandish=float32>>@SERVER"
)


@pytest.mark.parametrize(("adjustment", "layers"), [(None, 0), (VOTES, 1)])
def test_type_signature(adjustment, layers):
  found = _compose(adjustment).type_signature
  assert found.compact_representation() == (
    f"(<state={STATE},clients={{<shift=float32,weight=float32>}}@CLIENTS,instruction="
    f"<round_index=int32,learning_rate=float32,counts=int32[{layers}]>@SERVER> -> "
    f"<{STATE},{SUMS}>)"
  )


class TestMerge:
  def test_by_hand(self, plain):
    state, sums = _run(plain, [(1, 1), (3, 3), (99, 0)])
    # The mean shift is (1 · 1 + 3 · 3) / 4.
    np.testing.assert_allclose(state.model.active_values, [3.5, 4.5])
    np.testing.assert_array_equal(state.model.positions, FIRST_TWO)
    np.testing.assert_allclose(state.model.dense, [5.25])
    np.testing.assert_allclose(state.model.batch_norm_mean, [3.0])
    # The variance between clients is (1 · 1 + 3 · 9) / 4 - 2.5².
    np.testing.assert_allclose(state.model.batch_norm_variance, [4.75])
    assert state.round_index == 8
    assert list(sums.metrics) == [4, 2 * 0xC0, 4]
    assert list(sums.verdict) == [2, 1, 0, 0]

  def test_a_variance_is_never_negative(self, plain):
    # Rounding may make one of a large mean; here the server begins with it.
    model = _state().model._replace(batch_norm_variance=floats([-9]))
    state, _ = _run(plain, [(2, 1)], _state()._replace(model=model))
    assert state.model.batch_norm_variance[0] == 0.0

  def test_of_three_one_is_outvoted(self):
    composed = _compose(aggregation=Aggregation("median", slots=3))
    state, _ = _run(composed, [(1, 9), (2, 1), (1e6, 99)])
    np.testing.assert_allclose(state.model.active_values, [3, 4])

  def test_what_robust_means_learn_is_kept(self):
    update = messages.client_update_type(SIZES, 2, tff.types.to_type(()))
    process = aggregation_lib.robust_process(update.model)
    composed = _compose(
      kept=process.state_type.member, aggregation=Aggregation("robust")
    )
    start = _state(aggregation=process.initialize())
    state, _ = _run(composed, [(3, 1)], start)
    # Moved by 3, 3, 0.25, 3 and 9, which is clipped to length one.
    length = np.sqrt(3 * 3.0**2 + 0.25**2 + 9.0**2)
    np.testing.assert_allclose(
      state.model.active_values, floats([1, 2]) + 3 / length, rtol=1e-5
    )
    before, after = (
      [np.asarray(each).tolist() for each in tf.nest.flatten(kept)]
      for kept in (start.aggregation, state.aggregation)
    )
    assert before != after

  def test_hidden_it_is_the_same(self, plain):
    secure = SecureSums(BITWIDTH, 40, 3, 8)
    hidden = _compose(VOTES, aggregation=Aggregation(secure=secure))
    assert support.open_aggregations(hidden) == set()
    assert support.open_aggregations(plain) == {
      "federated_sum",
      "federated_weighted_mean",
    }
    clients = [(1, 1), (3, 3), (99, 0)]
    found = _run(hidden, clients, counts=[1])
    wanted = _run(_compose(VOTES), clients, counts=[1])
    for one, other in zip(support.leaves(found), support.leaves(wanted), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


class TestPositions:
  HELD = np.array([0x50], np.uint8)

  @pytest.fixture(scope="class", name="holding")
  def fixture_holding(self):
    return _compose(held_positions=self.HELD)

  def test_clients_hold_them(self, holding):
    state, sums = _run(holding, [(1, 1)], _state(self.HELD))
    assert sums.metrics.correct == 0x50
    np.testing.assert_array_equal(state.model.positions, self.HELD)

  def test_of_another_mask_there_is_no_round(self, holding):
    with pytest.raises(Exception, match="clients hold another mask than the server"):
      _run(holding, [(1, 1)])

  def test_nothing_of_them_travels(self, holding, plain):
    broadcasts = [
      str(tff.framework.serialize_computation(each)).count("federated_broadcast")
      for each in (holding, plain)
    ]
    assert broadcasts[0] < broadcasts[1]


class _Drops(ServerAdjustment):
  """Drops the first weight for good, and remembers the round."""

  def apply(self, model, mean, counts, round_index):
    assert mean == ()
    mask = tf.constant([False, True, False, False])
    prunable = tf.where(mask, model.weights.prunable, 0.0)
    moved = tf.cast(counts[0] + round_index, tf.float32)
    return model._replace(
      weights=model.weights._replace(prunable=prunable),
      mask=mask,
      memory=(model.memory[0] + moved,),
    )


class _Keeps(ServerAdjustment):
  """Takes what clients trained by other ways, of which here are none."""

  replaces_weights = True

  def apply(self, model, mean, counts, round_index):
    return model


class TestAdjust:
  @pytest.mark.parametrize("how", [WEIGHTED_MEAN, Aggregation("median", slots=3)])
  def test_the_mask_moves_after_the_merge(self, how):
    state, _ = _run(_compose(VOTES, aggregation=how), [(-2, 2)], counts=[1])
    # -1 and 0 come of it: the second goes. Votes are -2 and 4: the fourth comes.
    np.testing.assert_array_equal(state.model.positions, [0x90])
    np.testing.assert_array_equal(state.model.active_values, [-1, 0])
    np.testing.assert_allclose(state.model.dense, [5.25])
    assert state.round_index == 8

  def test_of_nothing_to_move_nothing_moves(self):
    state, _ = _run(_compose(VOTES), [(-2, 2)], counts=[0])
    np.testing.assert_array_equal(state.model.positions, FIRST_TWO)
    np.testing.assert_array_equal(state.model.active_values, [-1, 0])

  def test_the_server_may_do_it_alone_shrink_the_model_and_remember(self):
    memory = (np.array([0.5], np.float32),)
    composed = _compose(_Drops(), memory=memory, active_after=1)
    state, _ = _run(composed, [(1, 1)], _state(memory=memory), [30])
    np.testing.assert_array_equal(state.model.active_values, [3])
    # The second of four, in a bitmap.
    np.testing.assert_array_equal(state.model.positions, [0x40])
    assert [each.tolist() for each in state.memory] == [[0.5 + 30 + 7]]

  def test_weights_that_travel_elsewhere_are_not_merged(self):
    state, _ = _run(_compose(_Keeps()), [(1, 1)], counts=[1])
    np.testing.assert_array_equal(state.model.active_values, [1, 2])
    np.testing.assert_allclose(state.model.dense, [5.25])
