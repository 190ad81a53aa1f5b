"""Ranking over all layers: exact counts, ties, groups, layers that keep something."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import keras_graphs
from fedtiny_tff.sparsity import densities
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base, saliency
from tests.fedtiny_tff import support


def _spec(*layers):
  """Layers of (weights, weights of a group)."""
  return spec_lib.PrunableSpec(
    tuple(
      spec_lib.LayerSpec(f"layer{i}", (size,), block)
      for i, (size, block) in enumerate(layers)
    ),
    tuple((i,) for i in range(len(layers))),
  )


def _kept(spec, scores, count):
  flat = np.concatenate([np.asarray(s, np.float64) for s in scores])
  groups = saliency.group_scores(flat, spec)
  return np.flatnonzero(saliency.keep_overall(groups, spec, count)).tolist()


def test_the_largest_of_all_layers_are_kept():
  spec = support.spec_of_sizes(4, 3)
  # 9, 8 and 7; uniform densities would keep two weights here and one there.
  assert _kept(spec, [[1, 9, 2, 8], [3, 7, 4]], 3) == [1, 3, 5]


def test_a_layer_of_low_scores_keeps_its_best_weight():
  spec = support.spec_of_sizes(4, 3)
  assert _kept(spec, [[9, 8, 7, 6], [0, 0.2, 0.1]], 3) == [0, 1, 5]
  # Also where none scores at all: the first.
  assert _kept(spec, [[9, 8, 7, 6], [0, 0, 0]], 3) == [0, 1, 4]


def test_what_such_a_layer_keeps_goes_off_the_lowest_scores_elsewhere():
  spec = support.spec_of_sizes(4, 3, 2)
  # 9, 8, 7 and 6 without the last layer; the 6 gives way, not the largest layer.
  assert _kept(spec, [[9, 8, 0, 0], [7, 6, 0.1], [0, 0]], 4) == [0, 1, 4, 7]
  # With one weight more the 6 stays, wherever in its layer the best one is.
  assert _kept(spec, [[9, 8, 0, 0], [6, 7, 0.1], [0, 0]], 5) == [0, 1, 4, 5, 7]


def test_the_last_weight_goes_by_its_score_and_not_to_the_largest_layer():
  spec = support.spec_of_sizes(4, 3)
  # 9, 8 and 7, of which two are in the smaller layer.
  assert _kept(spec, [[1, 9, 2, 3], [3, 7, 8]], 3) == [1, 5, 6]
  # The same in pairs: 18 of one layer, 16 and 14 of the other.
  scores = [[9, 9, 1, 1, 1, 1, 1, 1], [8, 8, 7, 7]]
  assert _kept(_spec((8, 2), (4, 2)), scores, 6) == [0, 1, 8, 9, 10, 11]


def test_equal_scores_are_taken_in_order_of_their_index():
  spec = support.spec_of_sizes(4, 3, 2)
  # One of each layer, and then the first two.
  assert _kept(spec, [[1] * 4, [1] * 3, [1] * 2], 5) == [0, 1, 2, 4, 7]
  # As many as no sort keeps in order by chance.
  assert _kept(support.spec_of_sizes(64, 64), [[1] * 64] * 2, 66) == [*range(66)]


def test_a_group_is_the_sum_of_its_weights():
  spec = _spec((4, 2), (4, 2))
  # Sums 10, 8 and 5, 6; by its largest weight, the 8, the second group would win.
  assert _kept(spec, [[5, 5, 8, 0], [3, 2, 3, 3]], 4) == [0, 1, 6, 7]
  # Sums 7.5 and 10; by the Euclidean norm, 7.5 over 7.2, the first would win.
  assert _kept(_spec((4, 2)), [[7.5, 0, 4, 6]], 2) == [2, 3]


def test_groups_of_different_sizes_count_per_weight():
  spec = _spec((8, 4), (5, 1))
  # Four weights of 5, and single ones; those of 3 are 12 in sum, and yet the last.
  scores = [[3] * 4 + [5] * 4, [4, 3.5, 3.4, 3.3, 3.2]]
  assert _kept(spec, scores, 9) == [4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_counts_are_exact_where_the_next_group_would_be_too_large():
  spec = _spec((40, 4), (3, 1))
  assert densities.total_count(spec, 25 / 43) == 25
  # All three single weights and five groups are 23; then six groups and one weight.
  kept = _kept(spec, [list(range(40, 0, -1)), [99, 98, 97]], 25)
  assert kept == [*range(24), 40]


def test_per_layer_the_given_numbers_are_kept():
  spec = _spec((6, 2), (3, 1))
  scores = [np.array([1.0, 3.0, 3.0]), np.array([0.0, 0.0, 5.0])]
  mask = saliency.keep_by_layer(scores, spec, (4, 2))
  assert np.flatnonzero(mask).tolist() == [2, 3, 4, 5, 6, 8]


@st.composite
def _ranked(draw):
  """Draws layers, a density and scores with many ties."""
  blocks = draw(st.sampled_from([(1,), (4,), (1, 4), (1, 2, 4, 8)]))
  layers = draw(
    st.lists(
      st.tuples(st.integers(1, 12), st.sampled_from(blocks)), min_size=1, max_size=5
    )
  )
  spec = _spec(*((groups * block, block) for groups, block in layers))
  numbers = st.sampled_from([0.0, 1.0, 2.0, 1e-300, 1e30, float("nan")])
  scores = draw(st.lists(numbers, min_size=spec.size, max_size=spec.size))
  return spec, draw(st.floats(0.001, 1.0)), np.array(scores)


@support.quick
@given(_ranked())
def test_any_scores_give_the_exact_density_in_whole_groups(drawn):
  spec, density, scores = drawn
  seen = []

  def look(mask):
    seen.append(mask)
    return scores

  mask = saliency.mask_in_steps(spec, density, look)
  assert mask.dtype == bool
  assert mask.sum() == densities.total_count(spec, density)
  assert min(spec.active_counts(mask)) >= 1
  for i, block in enumerate(spec.channel_blocks):
    groups = mask[spec.slice(i)].reshape(-1, block)
    np.testing.assert_array_equal(groups.all(axis=1), groups.any(axis=1))
  if len(set(spec.channel_blocks)) == 1:
    for before, after in itertools.pairwise([*seen, mask]):
      assert not (after & ~before).any()


class TestSteps:
  def test_densities_fall_geometrically(self):
    seen = []

    def look(mask):
      seen.append(int(mask.sum()))
      return np.arange(64.0)

    mask = saliency.mask_in_steps(support.spec_of_sizes(64), 1 / 32, look)
    # (1/32)^(k/5) is 2^-k.
    assert seen == [64, 32, 16, 8, 4]
    assert np.flatnonzero(mask).tolist() == [62, 63]

  def test_every_step_goes_by_the_scores_of_what_is_left(self):
    def look(mask):
      # What is first in the dense model is last from then on.
      return np.array([4.0, 3, 2, 1]) if mask.all() else np.array([1.0, 2, 3, 99])

    # 4 weights, then 3, 2, 1 and 1 and 1: the 99 of the pruned weight counts nothing.
    mask = saliency.mask_in_steps(support.spec_of_sizes(4), 0.25, look)
    assert mask.tolist() == [False, False, True, False]

  def test_what_was_pruned_loses_even_to_a_score_of_zero(self):
    def look(mask):
      return np.array([0.0, 1, 2, 3]) if mask.all() else np.zeros(4)

    mask = saliency.mask_in_steps(support.spec_of_sizes(4), 0.25, look)
    assert mask.tolist() == [False, True, False, False]

  def test_what_is_not_a_number_counts_as_zero(self):
    scores = np.array([np.nan, 0.5, np.inf, np.nan])
    mask = saliency.mask_in_steps(support.spec_of_sizes(4), 0.5, lambda _: scores)
    assert mask.tolist() == [False, True, True, False]

  def test_a_dense_model_needs_no_scores(self):
    def never(mask):
      raise AssertionError(mask)

    assert saliency.mask_in_steps(support.spec_of_sizes(4, 3), 1.0, never).all()


class TestPlainModel:
  def test_builds_also_after_graphs_have_switched_the_layer_classes(self):
    with tf.Graph().as_default():
      support.build_cnn()
    assert keras_graphs.switched_classes()
    public = support.random_images(3)
    weights = support.random_weights(support.cnn())
    plain = saliency.PlainModel(
      base.Pretrained(support.cnn(), weights, public),
      lambda layer: type(layer).from_config(layer.get_config()),
    )
    assert np.isfinite(plain.model(public[0])).all()

  def test_computes_what_the_model_does(self):
    cnn = support.cnn()
    weights = support.random_weights(cnn)
    public = support.random_images(5)
    start = base.Pretrained(cnn, weights, public)
    plain = saliency.PlainModel(
      start, lambda layer: type(layer).from_config(layer.get_config())
    )
    dense = tf.ones([cnn.spec.size], tf.bool)
    expected = support.plain_model(cnn, weights, dense)(public[0])
    np.testing.assert_allclose(plain.model(public[0]), expected, rtol=1e-5)
    mask = support.random_mask(cnn.spec.size, 20)
    plain.assign(np.where(mask, weights.prunable, 0))
    sparse = support.plain_model(cnn, weights, mask)(public[0])
    np.testing.assert_allclose(plain.model(public[0]), sparse, rtol=1e-5)
    assert not np.allclose(expected, sparse)

  def test_consists_of_the_layers_that_are_made(self):
    made = []

    def make(layer):
      made.append(type(layer).from_config(layer.get_config()))
      return made[-1]

    cnn = support.cnn()
    weights = support.random_weights(cnn)
    start = base.Pretrained(cnn, weights, support.random_images(1))
    plain = saliency.PlainModel(start, make)
    with_weights = [layer for layer in plain.model.layers if layer.weights]
    assert set(map(id, with_weights)) <= set(map(id, made))
    assert len(with_weights) >= len(cnn.spec.layers)

  def test_kernels_are_in_the_order_of_the_spec(self):
    cnn = support.cnn()
    weights = tfmot_masking.ModelWeights(
      *(v.numpy() for v in tfmot_masking.initial_weights(cnn, 3))
    )
    start = base.Pretrained(cnn, weights, support.random_images(1))
    plain = saliency.PlainModel(
      start, lambda layer: type(layer).from_config(layer.get_config())
    )
    np.testing.assert_array_equal(saliency.flat(plain.kernels), weights.prunable)


@pytest.mark.parametrize("density", [0.02, 0.5])
def test_flat_scores_of_a_single_layer_are_its_largest(density):
  scores = np.random.default_rng(0).uniform(size=500)
  mask = saliency.mask_in_steps(support.spec_of_sizes(500), density, lambda _: scores)
  largest = np.argsort(-scores)[: int(500 * density)]
  assert set(np.flatnonzero(mask)) == set(largest)
