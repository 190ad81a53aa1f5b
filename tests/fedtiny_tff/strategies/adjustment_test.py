"""What an adjustment must say by itself, and the moves that methods share."""

import types
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.local_training import batches, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import masks
from fedtiny_tff.strategies import adjustment
from tests.fedtiny_tff import support

# Layers of 4, 6 and 3 weights.
_SPEC = support.spec_of_sizes(4, 6, 3)


def _weights(prunable):
  rest = (tf.constant(vector, tf.float32) for vector in ([7.0, 8.0], [0.5], [2.0]))
  return ModelWeights(tf.constant(prunable, tf.float32), *rest)


def _mask(*active):
  return tf.constant(np.isin(np.arange(13), active))


class _Half(adjustment.Adjustment):
  """A method that has only begun to say what it does."""


@pytest.mark.parametrize(
  ("call", "missing"),
  [
    (lambda a: a.client_statistics([], None, None), "what clients send"),
    (lambda a: a.statistics_specs(), "what shapes clients send"),
    (lambda a: a.zero(), "what statistics are added up in"),
    (lambda a: a.accumulate(None, None, None), "how statistics are added up"),
    (lambda a: a.apply(None, None, None, None), "how the mask moves"),
  ],
)
def test_what_a_method_leaves_out_is_named(call, missing):
  with pytest.raises(TypeError, match=f"^_Half must say {missing}$"):
    call(_Half())


def test_masks_are_the_servers_unless_said_otherwise():
  assert not adjustment.Adjustment.replaces_weights
  assert not adjustment.ServerAdjustment.replaces_weights


def _start():
  return adjustment.ClientStart(
    _weights([0.0] * 13),
    _mask(1),
    batches.in_stored_order(tf.zeros([1, 3])),
    tf.constant(0.5),
    tf.constant([2]),
  )


def test_training_looks_at_the_last_gradient_with_mask_and_counts():
  start = _start()

  def train_with_statistics(weights, mask, examples, learning_rate, look):
    assert (weights, mask, examples, learning_rate) == start[:4]
    return "trained", "metrics", look("gradients")

  class Sends(adjustment.Adjustment):
    def client_statistics(self, gradients, mask, counts):
      return gradients, mask, counts

  trainer: Any = types.SimpleNamespace(train_with_statistics=train_with_statistics)
  found = Sends().train(trainer, start)
  assert found == ("trained", "metrics", ("gradients", start.mask, start.counts))


def test_a_server_alone_lets_clients_train_as_ever():
  start = _start()
  metrics = training.zero_metrics()
  given_arguments = []

  def train(*arguments):
    given_arguments.append(arguments)
    return start.weights, metrics

  trainer: Any = types.SimpleNamespace(train=train)
  alone = adjustment.ServerAdjustment()
  assert alone.train(trainer, start) == (start.weights, metrics, ())
  assert given_arguments == [start[:4]]
  assert alone.statistics_specs() == ()


class TestDropAndGrow:
  """Active: 0, 1 | 4, 7 | 11; the layers begin at 0, 4 and 10."""

  MASK = _mask(0, 1, 4, 7, 11)
  PRUNABLE = (0.9, -0.1, 0, 0, 0.3, 0, 0, -0.2, 0, 0, 0, 0.5, 0)

  def moved(self, counts, layers=(0, 1)):
    model = adjustment.ServerModel(
      _weights(self.PRUNABLE), self.MASK, (tf.constant([3.0]),)
    )
    scores = [
      tf.constant([9.0, 9.0, 0.1, -0.2]), tf.constant([9.0, 1.0, -2.0, 9.0, 0.0, 0.5])
    ]  # fmt: skip
    return adjustment.drop_and_grow(
      model, _SPEC, layers, scores[: len(layers)], tf.constant(counts)
    )

  def test_by_hand(self):
    found = self.moved([1, 1])
    # Layer 0: -0.1 goes, 3 comes for |-0.2|. Layer 1: -0.2 goes, 4 + 2 comes for |-2|.
    assert np.flatnonzero(found.mask).tolist() == [0, 3, 4, 6, 11]
    wanted = [0.9, 0, 0, 0, 0.3, 0, 0, 0, 0, 0, 0, 0.5, 0]
    np.testing.assert_array_equal(found.weights.prunable, support.floats(wanted))

  def test_the_rest_of_the_model_stays(self):
    found = self.moved([1, 1])
    for ours, before in zip(
      found.weights[1:], _weights(self.PRUNABLE)[1:], strict=True
    ):
      np.testing.assert_array_equal(ours, before)
    assert [float(each[0]) for each in found.memory] == [3.0]

  def test_other_layers_stay(self):
    found = self.moved([2], layers=(0,))
    assert np.flatnonzero(found.mask).tolist() == [2, 3, 4, 7, 11]

  def test_nothing_moves_for_no_count(self):
    found = self.moved([0, 0])
    np.testing.assert_array_equal(found.mask, self.MASK)
    np.testing.assert_array_equal(found.weights.prunable, support.floats(self.PRUNABLE))


class TestLargestActive:
  def test_by_hand(self):
    prunable = tf.constant([0.9, -0.1, 5, 5, 0.3, 5, 5, -0.2, 5, 5, 5, 0.5, 5])
    found = adjustment.largest_active(
      prunable, _mask(0, 1, 4, 7, 11), _SPEC, tf.constant([1, 2, 0])
    )
    # What is pruned is never marked, however large.
    assert np.flatnonzero(found).tolist() == [0, 11]

  def test_of_equals_the_first_stay(self):
    found = adjustment.largest_active(
      tf.zeros([13]), _mask(*range(13)), _SPEC, tf.constant([1, 4, 2])
    )
    assert np.flatnonzero(found).tolist() == [0, 1, 2, 4, 5, 10]

  def test_groups_count_as_their_norm(self):
    spec = support.spec_of_sizes(8).with_channel_block(2)
    prunable = tf.constant([3.0, 0.0, 2.2, 2.3, 0.0, 0.0, 9.0, 9.0])
    mask = tf.constant([True] * 4 + [False] * 2 + [True] * 2)
    found = adjustment.largest_active(prunable, mask, spec, tf.constant([1]))
    # Norms 3, 3.18 and 12.7.
    assert np.flatnonzero(found).tolist() == [2, 3, 6, 7]


@support.quick
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 4]))
def test_counts_are_exact_in_whole_groups(seed, size):
  generator = np.random.default_rng(seed)
  spec = support.spec_of_sizes(24, 16).with_channel_block(size)
  mask = np.repeat(generator.random(40 // size) < 0.5, size)
  # Few values, so that ties are common.
  prunable = np.where(mask, generator.integers(-2, 3, 40), 0).astype(np.float32)
  active = [count // size for count in spec.active_counts(mask)]
  counts = [int(generator.integers(0, n + 1)) for n in active]
  found = adjustment.largest_active(
    tf.constant(prunable), tf.constant(mask), spec, tf.constant(counts)
  ).numpy()
  wanted = tuple((n - m) * size for n, m in zip(active, counts, strict=True))
  assert spec.active_counts(found) == wanted
  assert not (found & ~mask).any()
  groups = found.reshape(-1, size)
  assert (groups == groups[:, :1]).all()
  for i in range(2):
    norms = masks.group_norms(tf.constant(prunable[spec.slice(i)]), size).numpy()
    kept, was = found[spec.slice(i)][::size], mask[spec.slice(i)][::size]
    if kept.any() and (was & ~kept).any():
      assert norms[kept].min() >= norms[was & ~kept].max()
