"""What rounds do for any method: memory, shrinking models, replaced weights."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated.training_rounds import rounds, traffic
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import packing, positions, schedules
from fedtiny_tff.strategies import sparse
from fedtiny_tff.strategies.adjustment import (
  Adjustment,
  OwnWeights,
  ServerAdjustment,
  Trained,
  largest_active,
)
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

CONFIG = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1, 0.0), 1, 8)
SIZES = ModelWeights(4, 2, 0, 0)


@pytest.fixture(name="federation", scope="module")
def fixture_federation(tmp_path_factory):
  path = tmp_path_factory.mktemp("adjusting") / "records"
  return support.write_store(path, support.linear_clients())


def _state(active=(0, 1, 2, 3), memory=()):
  weights = ModelWeights(*(np.zeros(size, np.float32) for size in SIZES))
  mask = np.isin(np.arange(4), active)
  return support.make_state(weights, mask)._replace(memory=memory)


def _builder(federation, strategy, events, active, memory=()):
  return rounds.RoundBuilder(
    support.linear_model(), federation[0], CONFIG, strategy, events,
    active_count=active, seed=0, memory=memory,
  )  # fmt: skip


def _run(builder, state, number, federation):
  computation = builder.computation(number)
  instruction = builder.instruction(number, 0.1)
  return computation.run(state, federation[1], instruction)[0]


class _Notes(ServerAdjustment):
  """Leaves the mask, and notes the rounds and the largest weight so far."""

  def apply(self, model, mean, counts, round_index):
    count, largest = model.memory
    seen = tf.reduce_max(tf.abs(model.weights.prunable))
    index = tf.cast(round_index, tf.int64)
    return model._replace(memory=(count * 10 + index, tf.maximum(largest, [seen])))


class _Remembers(sparse.SparseStrategy):
  """A method with two arrays of memory, of two types."""

  def adjustment(self, plan):
    return _Notes()

  def initial_memory(self, mask):
    return np.int64(1), np.zeros([1], np.float32)


NOTED = tuple(schedules.AdjustmentEvent(number, 0, (0,)) for number in (1, 3))
NOTHING_NOTED = (np.asarray(1, np.int64), np.zeros([1], np.float32))


class TestMemory:
  @pytest.fixture(name="builder", scope="class")
  def fixture_builder(self, federation):
    return _builder(federation, _Remembers(), NOTED, 4, NOTHING_NOTED)

  def test_is_kept_from_round_to_round_and_changed_by_adjustments(
    self, builder, federation
  ):
    state, counts, largest = _state(memory=NOTHING_NOTED), [], []
    for number in range(5):
      state = _run(builder, state, number, federation)
      counts.append(int(state.memory[0]))
      largest.append(float(state.memory[1][0]))
    # 1, then 1 appended in round 1 and 3 in round 3.
    assert counts == [1, 11, 11, 113, 113]
    assert largest[0] == 0.0 < largest[1] == largest[2] < largest[3] == largest[4]
    assert [each.dtype for each in state.memory] == [np.int64, np.float32]

  def test_only_adjusting_rounds_take_it(self, builder):
    memory = "memory=<int64,float32[1]>"
    for number, takes in ((0, False), (1, True), (2, False), (3, True)):
      computation = builder.computation(number)
      assert computation.uses_memory is takes
      for found in (
        builder.state_type(number), computation.next.type_signature.parameter.state
      ):  # fmt: skip
        assert (memory in found.compact_representation()) is takes

  def test_it_is_not_broadcast(self, builder):
    ordinary, adjusting = builder.computation(0), builder.computation(1)
    # One count of the block's layer more.
    assert adjusting.download_bytes == ordinary.download_bytes + 4
    assert adjusting.upload_bytes == ordinary.upload_bytes

  def test_goes_on_where_another_process_left_it(self, builder, federation):
    other = _builder(federation, _Remembers(), NOTED, 4, NOTHING_NOTED)
    whole = again = _state(memory=NOTHING_NOTED)
    for number in range(4):
      whole = _run(builder, whole, number, federation)
      again = _run(builder if number < 2 else other, again, number, federation)
    assert support.to_bytes(again) == support.to_bytes(whole)
    assert int(again.memory[0]) == 113


class _Shrinks(sparse.SparseStrategy):
  """Drops the smallest weights for good."""

  def adjustment(self, plan):
    class Drop(ServerAdjustment):
      def apply(self, model, mean, counts, round_index):
        mask = largest_active(model.weights.prunable, model.mask, plan.spec, counts)
        kept = tf.where(mask, model.weights.prunable, 0.0)
        return model._replace(weights=model.weights._replace(prunable=kept), mask=mask)

    return Drop()


SHRINKING = tuple(
  schedules.AdjustmentEvent(number, 0, (1,), grows=False) for number in (1, 2)
)


class TestShrinkingEvents:
  @pytest.fixture(name="builder", scope="class")
  def fixture_builder(self, federation):
    return _builder(federation, _Shrinks(), SHRINKING, 4)

  def test_counts_fall_after_each(self, builder):
    assert [builder.active_count(number) for number in range(5)] == [4, 4, 3, 2, 2]

  def test_a_round_takes_a_larger_model_than_it_gives(self, builder):
    for number, before, after in ((0, 4, 4), (1, 4, 3), (2, 3, 2), (3, 2, 2)):
      found = builder.computation(number).next.type_signature
      taken, given = found.parameter.state.member, found.result[0].member
      assert taken.model.active_values.shape == (before,)
      assert given.model.active_values.shape == (after,)

  def test_messages_shrink_with_it(self, builder):
    sizes = [builder.computation(number) for number in range(4)]
    # Four bytes a weight; all positions of 4 are implied, of 3 and of 2 they are a byte.
    assert [s.upload_bytes - sizes[3].upload_bytes for s in sizes] == [8, 8, 4, 0]
    assert [s.position_bytes for s in sizes] == [0, 0, 1, 1]

  def test_figures_are_those_of_the_first_rounds(self, builder):
    found = traffic.round_traffic(
      SIZES, support.linear_model().spec, 4, _Shrinks(), SHRINKING
    )
    assert found.upload_bytes == builder.computation(0).upload_bytes
    assert found.download_bytes == builder.computation(0).download_bytes
    assert found.adjust_upload_bytes == builder.computation(1).upload_bytes

  def test_rounds_by_hand(self, builder, federation):
    """Full kernel steps from zero: rows ±0.025, ±0.15, see `rounds_by_hand_test`."""
    state = _run(builder, _state(), 0, federation)
    found = state.weights.prunable
    np.testing.assert_allclose(found, [0.025, -0.025, -0.15, 0.15], atol=1e-7)
    state = _run(builder, state, 1, federation)
    # Of the two smallest, as large as one another, the later goes.
    assert np.flatnonzero(state.mask).tolist() == [0, 2, 3]
    state = _run(builder, state, 2, federation)
    assert np.flatnonzero(state.mask).tolist() == [2, 3]
    state = _run(builder, state, 3, federation)
    assert np.flatnonzero(state.mask).tolist() == [2, 3]
    assert not state.weights.prunable[:2].any()

  def test_a_mask_that_did_not_shrink_is_a_defect(self, federation):
    class Keeps(_Shrinks):
      def adjustment(self, plan):
        class Nothing(ServerAdjustment):
          def apply(self, model, mean, counts, round_index):
            return model

        return Nothing()

    builder = _builder(federation, Keeps(), SHRINKING, 4)
    with pytest.raises(
      Exception, match=r"\[4\] is not compatible with expected shape \[3\]"
    ):
      _run(builder, _state(), 1, federation)


@dataclasses.dataclass(frozen=True)
class _Replaced(Adjustment):
  """Clients send their trained values doubled, in the statistics alone."""

  replaces_weights = True

  def train(self, trainer, start):
    weights, metrics = trainer.train(*start[:4])
    values = packing.gather_active(weights.prunable, start.mask, 2)
    places = positions.smallest_code(4, 2).encode(start.mask)
    return Trained(weights, metrics, OwnWeights(values, places))

  def statistics_specs(self):
    places = positions.smallest_code(4, 2).encoded_bytes
    return OwnWeights(tf.TensorSpec([2], tf.float32), tf.TensorSpec([places], tf.uint8))

  def zero(self):
    return tf.zeros([2])

  def accumulate(self, total, statistics, weight):
    return total + 2.0 * weight * statistics.values

  def apply(self, model, mean, counts, round_index):
    places = tf.where(model.mask)[:, 0]
    prunable = packing.scatter(mean, places, 4)
    return model._replace(weights=model.weights._replace(prunable=prunable))


class _Replaces(sparse.SparseStrategy):
  def adjustment(self, plan):
    return _Replaced()


class TestReplacedWeights:
  @pytest.fixture(name="builder", scope="class")
  def fixture_builder(self, federation):
    events = [schedules.AdjustmentEvent(1, 0, (0,))]
    return _builder(federation, _Replaces(), events, 2)

  def test_weights_are_what_the_server_makes_of_the_statistics(
    self, builder, federation
  ):
    start = _state((0, 3))
    plain = _run(builder, start, 0, federation)
    np.testing.assert_allclose(plain.weights.prunable, [0.025, 0, 0, 0.15], atol=1e-7)
    replaced = _run(builder, start, 1, federation)
    np.testing.assert_allclose(replaced.weights.prunable, [0.05, 0, 0, 0.3], atol=1e-7)
    # The rest is averaged as ever.
    np.testing.assert_array_equal(replaced.weights.dense, plain.weights.dense)

  def test_they_travel_once(self, builder):
    # Two values and a byte of positions in the statistics, none beside them.
    sizes = [builder.computation(number).upload_bytes for number in (0, 1)]
    assert sizes[0] == sizes[1] - 1 == 4 * (2 + 2) + 4 + 12
    work = builder._client_work(rounds._Key(0, 2, 2)).computation.type_signature.result
    assert work.update.model.active_values.shape == (0,)
    assert work.update.statistics.values.shape == (2,)
