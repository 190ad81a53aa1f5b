"""Tests of the quantisation adapter: vectors, masks, ranges, rounding, refusals."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot

from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking, tfmot_quantisation
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.masked_models.tfmot_quantisation import Ranges
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry
from tests.fedtiny_tff import support

layers = tf.keras.layers


def build_scaled() -> tf.keras.Model:
  """A dense layer, batch norm and ReLU, then 2 outputs."""
  inputs = layers.Input((3,))
  x = layers.Dense(4, name="hidden")(inputs)
  x = layers.BatchNormalization(epsilon=1e-3, name="norm")(x)
  x = layers.ReLU(name="relu")(x)
  return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))


def build_branches() -> tf.keras.Model:
  """Two unequal branches that are added; layers are made in no order of depth."""
  inputs = layers.Input((4, 4, 2))
  late = layers.Conv2D(3, 1, use_bias=False, name="late")
  late_norm = layers.BatchNormalization(name="late_norm")
  x = layers.Conv2D(3, 3, padding="same", use_bias=False, name="stem")(inputs)
  x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
  y = layers.DepthwiseConv2D(3, padding="same", name="deep")(x)
  y = layers.ReLU(name="deep_relu")(layers.BatchNormalization(name="deep_norm")(y))
  y = layers.BatchNormalization(name="side_norm")(
    layers.Conv2D(3, 1, use_bias=False, name="side")(y)
  )
  x = layers.Add(name="add")([late_norm(late(x)), y])
  x = layers.GlobalAveragePooling2D(name="pool")(x)
  return tf.keras.Model(inputs, layers.Dense(3, name="logits")(x))


@functools.cache
def plan_of(build) -> tfmot_quantisation.QuantisedPlan:
  return tfmot_quantisation.plan_quantisation(definition.define_model("own", build))


def filled(plan, seed: int = 0, density: float = 0.5):
  """Returns a model with random weights and mask, and both."""
  weights = support.random_weights(plan.definition, seed)
  mask = np.random.default_rng(seed).random(plan.definition.spec.size) < density
  model = tfmot_quantisation.QuantisedModel(plan)
  model.assign(weights, tf.constant(mask))
  return model, weights, mask


def images(plan, count: int = 8, seed: int = 1) -> tf.Tensor:
  shape = plan.definition.build().inputs[0].shape[1:]
  generator = np.random.default_rng(seed)
  return tf.constant(generator.normal(size=(count, *shape)), tf.float32)


BUILDERS = (support.build_cnn, support.build_linear, build_scaled, build_branches)


class TestVectors:
  @pytest.mark.parametrize("build", BUILDERS)
  def test_what_is_assigned_is_read_masked(self, build):
    model, weights, mask = filled(plan_of(build))
    read = model.read()
    np.testing.assert_array_equal(read.prunable, weights.prunable * mask)
    for name in ModelWeights._fields[1:]:
      np.testing.assert_array_equal(getattr(read, name), getattr(weights, name))

  @pytest.mark.parametrize("build", BUILDERS)
  def test_they_mean_what_they_mean_to_a_masked_model(self, build):
    plan = plan_of(build)
    model, weights, mask = filled(plan)
    masked = tfmot_masking.MaskedModel(plan.definition)
    masked.assign(weights, tf.constant(mask))
    features = images(plan)
    np.testing.assert_allclose(
      model.observe(features), masked.model(features, training=False), atol=1e-6
    )

  def test_copies_a_plain_model(self):
    plan = plan_of(build_branches)
    weights = support.random_weights(plan.definition, 3)
    full = tf.ones([plan.definition.spec.size], tf.bool)
    model = tfmot_quantisation.QuantisedModel(plan)
    model.copy_from(support.plain_model(plan.definition, weights, full))
    for found, wanted in zip(model.read(), weights, strict=True):
      np.testing.assert_array_equal(found, wanted)

  def test_ranges_round_trip(self):
    plan = plan_of(support.build_cnn)
    # Input, two ReLUs, the pool and the logits; batch norm is folded.
    assert plan.quantisers == 5
    ranges = Ranges(-tf.range(5.0), 1 + tf.range(5.0))
    model = tfmot_quantisation.QuantisedModel(plan)
    model.assign_ranges(ranges)
    for found, wanted in zip(model.read_ranges(), ranges, strict=True):
      np.testing.assert_array_equal(found, wanted)

  def test_builds_in_a_graph(self):
    with tf.Graph().as_default():
      model = tfmot_quantisation.QuantisedModel(plan_of(support.build_cnn))
      assert model.read().prunable.shape == [63]


class TestObserve:
  def test_ranges_are_the_extremes_of_floats_and_hold_zero(self):
    plan = plan_of(support.build_linear)
    model = tfmot_quantisation.QuantisedModel(plan)
    # Logits are (x, 2 y): 1, 4 and 3, -2.
    weights = ModelWeights(tf.constant([1.0, 0.0, 0.0, 2.0]), *[tf.zeros([0])] * 3)
    model.assign(weights, tf.constant([True, False, False, True]))
    model.observe(tf.constant([[1.0, 2.0]]))
    model.observe(tf.constant([[3.0, -1.0]]))
    low, high = model.read_ranges()
    np.testing.assert_array_equal(low, [-1.0, -2.0])
    np.testing.assert_array_equal(high, [3.0, 4.0])

  def test_ordinary_calls_in_inference_observe_nothing(self):
    model, _, _ = filled(plan_of(support.build_cnn))
    model.model(images(model.plan), training=False)
    assert not np.any(model.read_ranges())


class TestRounding:
  def test_weights_and_activations_by_hand(self):
    model = tfmot_quantisation.QuantisedModel(plan_of(support.build_linear))
    # The largest weight is 127 steps of 0.01: 0.333 is 33.3 of them.
    kernel = tf.constant([1.27, 0.333, 9.0, -0.004])
    model.assign(ModelWeights(kernel, *[tf.zeros([0])] * 3), kernel < 9.0)
    # Steps of 0.1 at the input, of 0.01 at the output, zero at a step.
    model.assign_ranges(Ranges(tf.constant([-5.0, -0.5]), tf.constant([20.5, 2.05])))
    outputs = model.model(tf.constant([[1.04, 3.0]]), training=False)
    # 1.04 is rounded to 1.0, 0.333 to 0.33 and -0.004 to 0.
    np.testing.assert_allclose(outputs, [[1.27, 0.33]], atol=1e-6)

  def test_training_moves_a_range_by_a_hundredth(self):
    model = tfmot_quantisation.QuantisedModel(plan_of(support.build_linear))
    model.assign(
      ModelWeights(tf.constant([1.0, 0.0, 0.0, 1.0]), *[tf.zeros([0])] * 3),
      tf.fill([4], True),
    )
    model.assign_ranges(Ranges(tf.constant([-1.0, -1.0]), tf.constant([2.0, 2.0])))
    model.model(tf.constant([[1.0, 1.5]]), training=True)
    low, high = model.read_ranges()
    # 0.99 of before, and 0.01 of the batch's 0 and 1.5.
    assert float(low[0]) == pytest.approx(-0.99)
    assert float(high[0]) == pytest.approx(1.995)

  def test_a_dead_channel_and_a_dead_range_stay_finite(self):
    model, weights, _ = filled(plan_of(support.build_cnn))
    model.assign(weights, tf.zeros([63], tf.bool))
    outputs = model.model(images(model.plan), training=False)
    assert np.isfinite(outputs).all()
    model.model(images(model.plan), training=True)
    assert np.isfinite(model.read().dense).all()

  def test_dense_weights_are_rounded_with_batch_norm_folded_in(self):
    plan = plan_of(build_scaled)
    model, weights, _ = filled(plan, density=1.0)
    # One channel is scaled up a thousandfold behind the layer: of the weights that
    # the others store there is nothing left.
    dense = np.array(weights.dense)
    gamma = dense[4:8]
    gamma[:] = [1000.0, 1.0, 1.0, 1.0]
    model.assign(weights._replace(dense=tf.constant(dense)), tf.fill([20], True))
    wrapper = model.model.get_layer("hidden")
    wrapper(tf.zeros([1, 3]), training=False)
    rounded = np.asarray(wrapper.layer.kernel)
    assert np.count_nonzero(rounded[:, 0]) == 3
    assert not rounded[:, 1:].any()


class TestMasks:
  def test_masked_weights_do_not_reach_the_outputs(self):
    model, weights, mask = filled(plan_of(support.build_cnn))
    features = images(model.plan)
    model.observe(features)
    wanted = model.model(features, training=False)
    spoilt = tf.where(mask, weights.prunable, 100.0)
    model.assign(weights._replace(prunable=spoilt), tf.constant(mask))
    np.testing.assert_array_equal(model.model(features, training=False), wanted)
    model.assign(weights._replace(prunable=spoilt), tf.fill([63], True))
    assert np.abs(model.model(features, training=False) - wanted).max() > 0.1

  def test_gradients_pass_by_masked_weights(self):
    model, _, mask = filled(plan_of(support.build_cnn))
    features = images(model.plan)
    model.observe(features)
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(tf.square(model.model(features, training=True)))
    gradients = model.mask_gradients(tape.gradient(loss, model.trainable_variables))
    flat = np.concatenate([np.reshape(g, -1) for g in gradients[:2]])
    assert not flat[~mask].any()
    assert flat[mask].any()

  def test_are_enforced_where_upstream_drifts(self):
    """An optimiser that pushes every weight: ours are zero, tfmot's own are not."""
    model, _, mask = filled(plan_of(support.build_cnn))
    for kernel in model.kernels:
      kernel.assign_add(tf.ones_like(kernel))
    model.enforce_masks()
    flat = np.concatenate([np.reshape(k, -1) for k in model.kernels])
    assert not flat[~mask].any()

    plain = support.build_linear()
    plain.set_weights([support.floats([[1.0, 0.0], [0.0, 2.0]])])
    annotated = tfmot.quantization.keras.quantize_annotate_model(plain)
    scheme = tfmot.quantization.keras.collab_opts.Default8BitPrunePreserveQuantizeScheme
    upstream = tfmot.quantization.keras.quantize_apply(annotated, scheme())
    wrapper = upstream.layers[-1]
    (kernel,) = wrapper.trainable_weights
    kernel.assign_add(tf.ones_like(kernel))
    assert np.count_nonzero(kernel) == 4


class TestExportModel:
  @pytest.mark.parametrize("build", BUILDERS)
  def test_computes_the_same(self, build):
    model, _, _ = filled(plan_of(build))
    features = images(model.plan)
    model.observe(features)
    exported = tfmot_quantisation.export_model(model)
    np.testing.assert_allclose(
      exported(features, training=False),
      model.model(features, training=False),
      atol=1e-5,
    )

  def test_folds_batch_norm_into_dense_layers(self):
    model, weights, mask = filled(plan_of(build_scaled))
    exported = tfmot_quantisation.export_model(model)
    hidden = exported.get_layer("hidden").weights
    variables = {v.name.rpartition("/")[2]: v for v in hidden}
    scale = weights.dense[4:8] / np.sqrt(weights.batch_norm_variance + 1e-3)
    kernel = np.reshape(weights.prunable[:12] * mask[:12], [3, 4])
    np.testing.assert_allclose(variables["kernel:0"], kernel * scale, rtol=1e-5)
    bias = (weights.dense[:4] - weights.batch_norm_mean) * scale + weights.dense[8:12]
    np.testing.assert_allclose(variables["bias:0"], bias, rtol=1e-4)


class TestPlanQuantisation:
  @pytest.mark.parametrize(
    ("layer", "kind"),
    [
      (layers.PReLU(name="odd"), "PReLU"),
      (layers.LayerNormalization(name="odd"), "LayerNormalization"),
      (layers.BatchNormalization(name="odd"), "BatchNormalization"),
    ],
  )
  def test_names_a_layer_that_tfmot_does_not_know(self, layer, kind):
    config = layer.get_config()

    def build() -> tf.keras.Model:
      inputs = layers.Input((4,))
      x = type(layer).from_config(config)(inputs)
      return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

    with pytest.raises(
      InputError, match=rf"layer 'odd' \({kind}\).*left|leave"
    ) as info:
      plan_of(build)
    assert "\n" not in str(info.value)

  def test_refuses_layers_that_become_others(self):
    def build() -> tf.keras.Model:
      inputs = layers.Input((4, 4, 1))
      x = layers.SeparableConv2D(2, 3, name="split")(inputs)
      x = layers.Flatten(name="flat")(x)
      return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

    with pytest.raises(InputError, match=r"split.*quantisation_aware=never"):
      plan_of(build)

  @pytest.mark.slow
  @pytest.mark.parametrize("name", sorted(registry.MODELS))
  def test_every_model_of_ours_is_quantised(self, name):
    shape = (20,) if name == "autoencoder" else (32, 32, 3)
    found = registry.get_model(name, shape, 10, 0.25)
    plan = tfmot_quantisation.plan_quantisation(found)
    sizes = tfmot_masking.vector_sizes(found)
    model, _, _ = filled(plan)
    assert tuple(v.shape[0] for v in model.read()) == sizes
