"""Small models inside larger ones: by hand, there and back, and what they compute."""

import functools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.channel_reduction import Reduction
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry
from tests.fedtiny_tff import support
from tests.fedtiny_tff.models import support as models

layers = tf.keras.layers


@functools.cache
def _residual(channels: int) -> definition.ModelDefinition:
  """Adds a stem and a convolution of it, both 1x1; batch norm, pool, 2 logits."""

  def build():
    inputs = layers.Input((2, 2, 1))
    x = layers.Conv2D(channels, 1, use_bias=False, name="stem")(inputs)
    y = layers.Conv2D(channels, 1, name="conv")(x)
    x = layers.Add(name="add")([x, y])
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

  return definition.define_model("residual", build)


@functools.cache
def _flattened(channels: int, units: int) -> definition.ModelDefinition:
  """Lays channels at 2x2 positions flat; batch norm, hidden units, 2 logits."""

  def build():
    inputs = layers.Input((2, 2, 2))
    x = layers.Conv2D(channels, 1, name="conv")(inputs)
    x = layers.DepthwiseConv2D((1, 2), padding="same", name="depthwise")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dense(units, activation="relu", name="hidden")(x)
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

  return definition.define_model("flattened", build)


@functools.cache
def _reduction(count: int = 3) -> Reduction:
  return Reduction(_residual(4), _residual(count))


def _weights() -> ModelWeights:
  """Norms of the stem's channels are 3, 1, 0, 3; of the convolution's 1, 2, 4, 0."""
  kernel = [[1, 0, 0, 0], [0, 0, 4, 0], [0, -2, 0, 0], [0, 0, 0, 0]]
  logits = [[10, 11], [20, 21], [30, 31], [40, 41]]
  stem, bias = [3, -1, 0, 3], [5, 6, 7, 8]
  gamma, beta = [1.1, 1.2, 1.3, 1.4], [2.1, 2.2, 2.3, 2.4]
  prunable = [*np.ravel(kernel), *np.ravel(logits)]
  dense = [*stem, *bias, *gamma, *beta, 50, 51]
  return ModelWeights(
    *(
      tf.constant(values, tf.float32)
      for values in (prunable, dense, [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8])
    )
  )


class TestByHand:
  """Sums of norms are 4, 3, 4, 3: of the two of 3 the first is kept."""

  def test_channels(self):
    assert _reduction().choose(_weights()).numpy().tolist() == [0, 1, 2]
    assert _reduction(2).choose(_weights()).numpy().tolist() == [0, 2]
    assert _reduction(4).choose(_weights()).numpy().tolist() == [0, 1, 2, 3]

  def test_all_equal_channels_are_taken_in_order(self):
    equal = ModelWeights(*(tf.ones_like(vector) for vector in _weights()))
    assert _reduction().choose(equal).numpy().tolist() == [0, 1, 2]

  def test_what_is_not_a_number_counts_as_nothing(self):
    weights = _weights()
    dense = tf.tensor_scatter_nd_update(weights.dense, [[0]], [np.nan])
    kept = _reduction().choose(weights._replace(dense=dense))
    assert kept.numpy().tolist() == [1, 2, 3]

  def test_norms_of_tiny_weights_count(self):
    tiny = ModelWeights(*(vector * 1e-25 for vector in _weights()))
    assert _reduction(2).choose(tiny).numpy().tolist() == [0, 2]

  def test_weights(self):
    small, kept = _reduction(2).reduce(_weights())
    assert kept.numpy().tolist() == [0, 2]
    kernel = [[1, 0], [0, 0]]
    assert small.prunable.numpy().tolist() == [*np.ravel(kernel), 10, 11, 30, 31]
    dense = [3, 0, 5, 7, 1.1, 1.3, 2.1, 2.3, 50, 51]
    np.testing.assert_array_equal(small.dense, support.floats(dense))
    np.testing.assert_array_equal(small.batch_norm_mean, support.floats([0.1, 0.3]))
    np.testing.assert_array_equal(small.batch_norm_variance, support.floats([0.5, 0.7]))

  def test_mask(self):
    mask = _reduction(2).mask(tf.constant([1, 3])).numpy()
    kernel, logits = mask[:16].reshape(4, 4), mask[16:].reshape(4, 2)
    kept = np.array([False, True, False, True])
    np.testing.assert_array_equal(kernel, np.outer(kept, kept))
    np.testing.assert_array_equal(logits, np.outer(kept, [True, True]))

  def test_scatter_leaves_the_others_as_they_are(self):
    kept = tf.constant([1, 3])
    new = ModelWeights(*(-tf.ones_like(v) for v in _reduction(2).reduce(_weights())[0]))
    full = _reduction(2).scatter(_weights(), kept, new)
    kernel = [[1, 0, 0, 0], [0, -1, 4, -1], [0, -2, 0, 0], [0, -1, 0, -1]]
    logits = [[10, 11], [-1, -1], [30, 31], [-1, -1]]
    assert full.prunable.numpy().tolist() == [*np.ravel(kernel), *np.ravel(logits)]
    dense = [3, -1, 0, -1, 5, -1, 7, -1, 1.1, -1, 1.3, -1, 2.1, -1, 2.3, -1, -1, -1]
    np.testing.assert_array_equal(full.dense, support.floats(dense))
    wanted = support.floats([0.1, -1, 0.3, -1])
    np.testing.assert_array_equal(full.batch_norm_mean, wanted)

  def test_what_a_kept_channel_computes_does_not_hang_on_the_others(self):
    """The full model's channels 1 and 3 give 0; what reads them may be anything."""
    weights = _weights()
    conv, rest = np.reshape(weights.prunable[:16], [4, 4]).copy(), weights.dense.numpy()
    conv[[1, 3]] = 9
    conv[:, [1, 3]] = 0
    # Stem, bias, scale and shift.
    rest[:16].reshape(4, 4)[:, [1, 3]] = 0
    prunable = np.concatenate([conv.ravel(), weights.prunable[16:]])
    full = weights._replace(prunable=prunable, dense=rest)
    small = _reduction(2).gather(full, tf.constant([0, 2]))
    images = np.random.default_rng(0).normal(size=(5, 2, 2, 1)).astype(np.float32)
    from_full, from_small = [
      support.plain_model(each, values, np.ones(each.spec.size, bool))(images)
      for each, values in ((_residual(4), full), (_residual(2), small))
    ]
    np.testing.assert_allclose(from_full, from_small, rtol=1e-5)

  def test_flattened_channels_repeat(self):
    reduction = Reduction(_flattened(3, 4), _flattened(2, 1))
    weights = support.random_weights(reduction.full)
    small = reduction.gather(weights, tf.constant([0, 2, 3]))
    # Positions are rows and columns; each has all channels, 0 and 2 of them kept.
    rows = [3 * position + channel for position in range(4) for channel in (0, 2)]
    hidden = weights.prunable.numpy()[:48].reshape(12, 4)[rows, 3]
    logits = weights.prunable.numpy()[48:].reshape(4, 2)[3]
    np.testing.assert_array_equal(small.prunable, [*hidden, *logits])
    mean = weights.batch_norm_mean.numpy()[rows]
    np.testing.assert_array_equal(small.batch_norm_mean, mean)


@st.composite
def _kept_channels(draw):
  """Draws 2 of 3 channels and 1 of 4 units."""
  channels = sorted(draw(st.permutations(range(3)))[:2])
  return tf.constant([*channels, draw(st.integers(0, 3))])


@hypothesis.settings(support.quick, max_examples=20)
@hypothesis.given(_kept_channels(), st.integers(0, 1000))
def test_there_and_back(kept, seed):
  reduction = Reduction(_flattened(3, 4), _flattened(2, 1))
  full = support.random_weights(reduction.full, seed)
  small = reduction.gather(full, kept)
  back = reduction.scatter(full, kept, small)
  other = ModelWeights(*(vector + 1.0 for vector in small))
  changed = reduction.scatter(full, kept, other)
  for vectors in zip(full, back, small, other, changed, strict=True):
    before, same, taken, new, after = map(np.asarray, vectors)
    np.testing.assert_array_equal(before, same)
    # Each value has one place, and nothing else is touched.
    assert np.count_nonzero(after != before) == len(taken) == len(new)
  for one, another in zip(reduction.gather(changed, kept), other, strict=True):
    np.testing.assert_array_equal(one, another)
  mask = reduction.mask(kept).numpy()
  np.testing.assert_array_equal(mask, changed.prunable != full.prunable)
  assert mask.sum() == reduction.definition.spec.size


def test_the_same_in_a_graph():
  chosen = tf.function(_reduction(2).reduce)(_weights())
  for one, another in zip(
    tf.nest.flatten(chosen),
    tf.nest.flatten(_reduction(2).reduce(_weights())),
    strict=True,
  ):
    assert one.shape == another.shape
    np.testing.assert_array_equal(one, another)


# Grey images, which some models repeat for their stem.
_GREY = {name: (*shape[:2], 1) for name, shape in models.TINY.items()}


@pytest.mark.parametrize("name", support.quick_models(registry.MODELS))
def test_small_models_compute_what_full_ones_do_without_the_other_channels(name):
  full, small = (models.get_model(name, _GREY[name], 3, w) for w in (0.25, 0.15))
  reduction = Reduction(full, small)
  weights = support.random_weights(full)
  taken, kept = reduction.reduce(weights)
  assert tuple(v.shape[0] for v in taken) == tuple(tfmot_masking.vector_sizes(small))
  mask = reduction.mask(kept).numpy()
  # Exactly as many as the small model's kernels have, in every layer.
  assert full.spec.active_counts(mask) == small.spec.sizes
  assert mask.sum() == small.spec.size
  zeros = ModelWeights(*(tf.zeros_like(vector) for vector in weights))
  alone = reduction.scatter(zeros, kept, taken)
  generator = np.random.default_rng(0)
  inputs = generator.normal(size=(3, *_GREY[name])).astype(np.float32)
  found, wanted = (
    support.plain_model(each, values, np.ones(each.spec.size, bool))(inputs).numpy()
    for each, values in ((small, taken), (full, alone))
  )
  assert np.ptp(wanted) > 0
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(found / scale, wanted / scale, atol=1e-5)


def test_the_same_model_keeps_everything():
  reduction = _reduction(4)
  small, kept = reduction.reduce(_weights())
  assert kept.numpy().tolist() == [0, 1, 2, 3]
  for one, another in zip(small, _weights(), strict=True):
    np.testing.assert_array_equal(one, another)


class TestRefusals:
  def test_more_channels(self):
    with pytest.raises(InputError, match="5 channels cannot be chosen from 4"):
      Reduction(_residual(4), _residual(5))

  def test_another_architecture(self):
    with pytest.raises(
      InputError, match="its layers are joined in another way"
    ) as caught:
      Reduction(_residual(4), _flattened(2, 2))
    assert "\n" not in str(caught.value)

  def test_sums_that_only_narrow_models_have(self):
    """MobileNetV2 adds where channels are as many, and at last all are one."""
    full, small = (
      models.get_model("mobilenet_v2_sparse", (9, 5, 1), 3, w) for w in (0.25, 0.01)
    )
    with pytest.raises(
      InputError, match="'mobilenet_v2_sparse' so narrow cannot be cut"
    ):
      Reduction(full, small)
