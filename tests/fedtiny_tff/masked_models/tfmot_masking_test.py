"""The wrapper applies masks made elsewhere, and does nothing else."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition
from tests.fedtiny_tff import support

_ACTIVE = 20


@pytest.fixture(name="weights")
def _weights():
  return support.random_weights(support.cnn())


@pytest.fixture(name="mask")
def _mask():
  return support.random_mask(support.cnn().spec.size, _ACTIVE)


@pytest.fixture(name="masked")
def _masked(weights, mask):
  model = tfmot_masking.MaskedModel(support.cnn())
  model.assign(weights, mask)
  return model


def _flat(tensors):
  return np.concatenate([np.asarray(t).reshape(-1) for t in tensors])


def _loss(model, features, labels):
  logits = model(features, training=True)
  return tf.reduce_mean(
    tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant(labels), logits)
  )


def test_variables_are_split_into_kernels_and_the_rest(masked):
  assert [tuple(k.shape) for k in masked.kernels] == [(3, 3, 2, 3), (3, 3)]
  # conv1, gamma, beta, gamma, beta, bias, in model order.
  assert [tuple(v.shape) for v in masked.dense] == [
    (3, 3, 1, 2), (2,), (2,), (3,), (3,), (3,)
  ]  # fmt: skip
  assert len(masked.batch_norm_layers) == 2
  count = len(masked.kernels)
  assert all(
    a is b
    for a, b in zip(masked.trainable_variables[:count], masked.kernels, strict=True)
  )


def test_weights_come_back_as_assigned_but_masked(masked, weights, mask):
  read = masked.read()
  np.testing.assert_array_equal(read.prunable, np.where(mask, weights.prunable, 0.0))
  for field in ("dense", "batch_norm_mean", "batch_norm_variance"):
    np.testing.assert_array_equal(getattr(read, field), getattr(weights, field))


def test_the_sizes_are_those_of_the_vectors(weights):
  sizes = tfmot_masking.vector_sizes(support.cnn())
  assert sizes == tfmot_masking.ModelWeights(63, 31, 5, 5)
  assert sizes == tuple(v.shape[0] for v in weights)


def test_sizes_are_measured_once_and_forgotten_with_their_definition():
  built = []

  def build():
    built.append(1)
    return support.cnn().build()

  made = dataclasses.replace(support.cnn(), build=build)
  assert tfmot_masking.vector_sizes(made) == tfmot_masking.vector_sizes(made)
  once = len(built)
  assert once >= 1
  other = dataclasses.replace(made, name="other")
  tfmot_masking.vector_sizes(other)
  assert len(built) == 2 * once
  gone = weakref.ref(other)
  del other
  gc.collect()
  assert gone() is None


def test_a_model_without_batch_norm_has_empty_statistics():
  assert tfmot_masking.vector_sizes(support.linear()) == (4, 0, 0, 0)
  model = tfmot_masking.MaskedModel(support.linear())
  model.assign(support.random_weights(support.linear()), tf.ones([4], tf.bool))
  assert model.read().batch_norm_mean.shape == [0]


@pytest.mark.parametrize("training", [False, True])
def test_a_forward_pass_masks_the_weights(masked, weights, mask, training):
  features, _ = support.random_images(5)
  expected = support.plain_model(support.cnn(), weights, mask)
  # `assign` was given values at pruned positions too.
  assert np.count_nonzero(np.asarray(weights.prunable)[~np.asarray(mask)])
  np.testing.assert_allclose(
    masked.model(features, training=training),
    expected(features, training=training),
    rtol=1e-5,
    atol=1e-6,
  )
  assert np.count_nonzero(_flat(masked.kernels)) == _ACTIVE


def test_a_pruned_weights_gradient_is_the_dense_one_of_the_masked_kernel(
  masked, weights, mask
):
  features, labels = support.random_images(6)
  plain = support.plain_model(support.cnn(), weights, mask)
  kernels = [plain.get_layer(name).kernel for name in ("conv2", "logits")]
  with tf.GradientTape() as tape:
    loss = _loss(plain, features, labels)
  expected = _flat(tape.gradient(loss, kernels))
  with tf.GradientTape() as tape:
    loss = _loss(masked.model, features, labels)
  gradients = tape.gradient(loss, masked.trainable_variables)
  actual = _flat(gradients[: len(kernels)])
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
  # It is a true gradient there, not one that the mask cut off.
  assert np.count_nonzero(actual[~mask.numpy()]) > 20


def test_mask_gradients_zeroes_pruned_positions_only(masked, mask):
  ones = [tf.ones_like(v) for v in masked.trainable_variables]
  gradients = masked.mask_gradients(ones)
  np.testing.assert_array_equal(_flat(gradients[:2]), mask.numpy().astype(np.float32))
  assert all((g.numpy() == 1.0).all() for g in gradients[2:])


def test_training_never_changes_the_masks(masked, mask):
  features, labels = support.random_images(8)
  optimizer = tf.keras.optimizers.SGD(0.5)
  for _ in range(6):
    with tf.GradientTape() as tape:
      loss = _loss(masked.model, features, labels)
    variables = masked.trainable_variables
    optimizer.apply_gradients(
      zip(tape.gradient(loss, variables), variables, strict=True)
    )
  np.testing.assert_array_equal(_flat(masked.masks), mask.numpy().astype(np.float32))


def test_read_is_exactly_zero_after_a_step_with_unmasked_gradients(masked, mask):
  features, labels = support.random_images(8)
  with tf.GradientTape() as tape:
    loss = _loss(masked.model, features, labels)
  gradients = tape.gradient(loss, masked.kernels)
  tf.keras.optimizers.SGD(0.5).apply_gradients(
    zip(gradients, masked.kernels, strict=True)
  )
  # The step did move pruned weights ...
  assert np.count_nonzero(_flat(masked.kernels)[~mask.numpy()])
  # ... and nobody sees it.
  assert not np.count_nonzero(masked.read().prunable.numpy()[~mask.numpy()])


def test_a_new_mask_replaces_the_old_one(masked, weights, mask):
  other = tf.logical_not(mask)
  masked.assign(weights, other)
  np.testing.assert_array_equal(
    masked.read().prunable, np.where(other, weights.prunable, 0.0)
  )


def test_vectors_of_a_wrong_length_are_refused(masked, weights, mask):
  with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="split"):
    masked.assign(weights._replace(prunable=weights.prunable[1:]), mask)
  with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="split"):
    masked.assign(weights, mask[1:])


def test_only_the_statistics_are_set_by_assign_batch_norm(masked, weights, mask):
  masked.assign_batch_norm(tf.range(5.0), tf.range(5.0) + 1.0)
  read = masked.read()
  np.testing.assert_array_equal(read.batch_norm_mean, [0, 1, 2, 3, 4])
  np.testing.assert_array_equal(read.batch_norm_variance, [1, 2, 3, 4, 5])
  np.testing.assert_array_equal(read.dense, weights.dense)
  np.testing.assert_array_equal(read.prunable, np.where(mask, weights.prunable, 0.0))


def test_strip_returns_a_plain_model_with_zeros(masked, weights, mask):
  features, _ = support.random_images(4)
  plain = tfmot_masking.strip(masked)
  names = {type(layer).__name__ for layer in plain.layers}
  assert not any("Prune" in name for name in names)
  assert [v.name for v in plain.trainable_variables] != []
  kernels = _flat([plain.get_layer(n).kernel for n in ("conv2", "logits")])
  np.testing.assert_array_equal(kernels, np.where(mask, weights.prunable, 0.0))
  expected = support.plain_model(support.cnn(), weights, mask)
  assert len(plain.weights) == len(expected.weights)
  np.testing.assert_allclose(
    plain(features, training=False), expected(features, training=False), atol=1e-6
  )


def test_copy_from_takes_every_variable():
  source = support.build_cnn()
  definition.initialize(source, 5)
  source.get_layer("batch_norm2").moving_mean.assign([1.0, 2.0, 3.0])
  masked = tfmot_masking.MaskedModel(support.cnn())
  masked.copy_from(source)
  read = masked.read()
  kernels = [source.get_layer(n).kernel for n in ("conv2", "logits")]
  np.testing.assert_array_equal(read.prunable, _flat(kernels))
  np.testing.assert_array_equal(read.batch_norm_mean, [0, 0, 1, 2, 3])


def test_copy_from_another_architecture_is_refused():
  masked = tfmot_masking.MaskedModel(support.cnn())
  with pytest.raises(ValueError, match="No such layer"):
    masked.copy_from(support.build_linear())


def test_initial_weights_depend_on_the_seed_only():
  first = tfmot_masking.initial_weights(support.cnn(), 3)
  tf.random.set_seed(99)
  np.testing.assert_array_equal(
    first.prunable, tfmot_masking.initial_weights(support.cnn(), 3).prunable
  )
  other = tfmot_masking.initial_weights(support.cnn(), 4)
  assert (first.prunable.numpy() != other.prunable.numpy()).any()
  # Nothing is pruned yet.
  assert np.count_nonzero(first.prunable) == 63


def test_the_schedule_never_prunes_and_can_be_serialised():
  schedule = tfmot_masking.NeverPrune()
  should, sparsity = schedule(tf.constant(10_000))
  assert not should
  assert sparsity == 0.0
  assert schedule.get_config() == {"class_name": "NeverPrune", "config": {}}


@pytest.mark.parametrize(
  ("name", "hidden"), [("float32", tf.float32), ("bfloat16", tf.bfloat16)]
)
def test_layers_compute_in_the_given_dtype_and_variables_stay_float32(
  weights, mask, name, hidden
):
  model = tfmot_masking.MaskedModel(support.cnn(), name)
  model.assign(weights, mask)
  assert {v.dtype for v in model.model.variables if v.dtype.is_floating} == {tf.float32}
  assert {layer.moving_mean.dtype for layer in model.batch_norm_layers} == {tf.float32}
  *inner, last = model.model.layers[1:]
  # Wrappers too: they must not turn their inputs back.
  assert {layer.compute_dtype for layer in inner} == {hidden.name}
  assert last.compute_dtype == "float32"
  outputs = [layer.output.dtype for layer in inner]
  assert set(outputs) == {hidden}
  assert model.model(support.random_images(2)[0]).dtype == tf.float32


def test_no_variable_is_drawn_and_none_is_left_over_in_a_graph():
  """Both would be paid for again at every call of a TFF computation."""
  with tf.Graph().as_default() as graph:
    model = tfmot_masking.MaskedModel(support.cnn())
    variables = tf.compat.v1.global_variables()
  assert {id(v) for v in variables} == {id(v) for v in model.model.variables}
  random = [op.name for op in graph.get_operations() if "random" in op.type.lower()]
  assert random == []
