"""Rounds of a small convolutional network: a dense reference, and invariants."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.training_rounds import client_work
from fedtiny_tff.local_training import batches
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.training_rounds import round_settings
from tests.fedtiny_tff.federated.training_rounds.dense_reference import (
  PlainModel,
  adjust_reference,
  average_reference,
  train_reference,
)
from tests.fedtiny_tff.federated.training_rounds.round_settings import (
  CNN_COUNTS,
  CNN_RATE,
  REFERENCES,
  ROUND,
  STATE,
  Setting,
  Step,
)

pytestmark = pytest.mark.usefixtures("local_runtime")


@pytest.fixture(scope="module")
def cnn(tmp_path_factory) -> Setting:
  return round_settings.cnn(tmp_path_factory.mktemp("cnn"), 0)


@pytest.fixture(scope="module")
def cnn_start(cnn) -> states.ServerState:
  return round_settings.cnn_start(cnn)


@pytest.fixture(scope="module")
def history(cnn, cnn_start) -> list[Step]:
  return round_settings.history(cnn, cnn_start)


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


class TestBytes:
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


def reference_round(
  setting: Setting, state: states.ServerState, round_index: int, rate: float
) -> tuple[states.ServerState, list[np.ndarray], float]:
  """The round without its adjustment, its clients' gradients, its summed loss."""
  plain = PlainModel(setting.definition)
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
      train_reference(plain, state, client.training, steps, rate, momentum)
    )
  weights = average_reference([r.weights for r in results], setting.examples)
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
    prunable, mask = adjust_reference(
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

  def test_another_seed_gives_another_order(self, tmp_path, cnn_start, history):
    other, _ = round_settings.cnn(tmp_path, 1).run(cnn_start, 0, CNN_RATE)
    assert not np.array_equal(other.weights.prunable, history[0].after.weights.prunable)

  def test_order_of_clients_does_not_matter(self, cnn, history):
    for step in (history[0], history[1]):
      state, metrics = cnn.run(
        step.before, step.round_index, CNN_RATE, cnn.references[::-1]
      )
      np.testing.assert_array_equal(state.mask, step.after.mask)
      for found, wanted in zip(state.weights, step.after.weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
      assert metrics.loss_sum == pytest.approx(step.metrics.loss_sum, rel=1e-6)


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
    found, metrics = cnn.run(history[0].before, 0, CNN_RATE, [*cnn.references, empty])
    for ours, wanted in zip(found.weights, history[0].after.weights, strict=True):
      np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-6)
    assert metrics == history[0].metrics
