"""The file's functions compute what the simulated client computes, in LiteRT."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import optimizers
from fedtiny_tff.local_training import training as training_lib
from fedtiny_tff.masked_models import batch_statistics, tfmot_masking
from fedtiny_tff.model_structure import definition
from fedtiny_tff.strategies import base, fedtiny
from tflite_export.device_training import device_file
from tflite_export.device_training.device_model import (
  DeviceBlock,
  DeviceModel,
  DeviceTraining,
)

layers = tf.keras.layers
SHAPE, CLASSES, BATCH, SLOTS = (6, 6, 2), 3, 5, 4
OPTIMIZER = optimizers.OptimizerConfig("sgd", 0.1, 0.9, 0.01, 1.0)


def build() -> tf.keras.Model:
  inputs = layers.Input(SHAPE)
  x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="stem")(
    inputs
  )
  x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
  x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
  x = layers.ReLU(6.0, name="relu6")(layers.BatchNormalization(name="norm")(x))
  x = layers.Conv2D(6, 1, name="pointwise")(x)
  x = layers.MaxPooling2D(2, strides=1, name="pool")(x)
  x = layers.Dense(8, use_bias=False, name="hidden")(layers.Flatten(name="flat")(x))
  x = layers.ReLU(name="hidden_relu")(layers.BatchNormalization(name="hidden_norm")(x))
  return tf.keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x), name="tiny")


@functools.cache
def tiny() -> definition.ModelDefinition:
  return definition.define_model("tiny", build, (("pointwise",), ("hidden", "logits")))


@functools.cache
def start() -> tuple[tfmot_masking.ModelWeights, np.ndarray]:
  """Masked weights of which no value is special, and their mask."""
  generator = np.random.default_rng(0)
  mask = generator.random(tiny().spec.size) < 0.5
  sizes = tfmot_masking.vector_sizes(tiny())
  drawn = tfmot_masking.ModelWeights(
    *(generator.normal(0, 0.4, size).astype(np.float32) for size in sizes)
  )
  return drawn._replace(
    prunable=drawn.prunable * mask,
    dense=np.abs(drawn.dense),
    batch_norm_variance=np.abs(drawn.batch_norm_variance) + 0.1,
  ), mask


@functools.cache
def adjustment(block: int) -> fedtiny.TopGradientAdjustment:
  spec, active = tiny().spec, int(start()[1].sum())
  capacities = (SLOTS,) * len(spec.blocks[block])
  return fedtiny.TopGradientAdjustment(
    base.AdjustmentPlan(spec, block, capacities, 0, active)
  )


def device_block(block: int) -> DeviceBlock:
  adjusting = adjustment(block)
  return DeviceBlock(
    len(tiny().spec.blocks[block]),
    lambda *given: adjusting.client_statistics(*given)._asdict(),
  )


@functools.cache
def content() -> bytes:
  blocks = tuple(device_block(block) for block in range(2))
  training = DeviceTraining(OPTIMIZER, BATCH, int(start()[1].sum()), blocks)
  model = DeviceModel(tiny(), training)
  return device_file.device_file(model.variables, model.functions())


class Device:
  """An interpreter that was given the starting weights."""

  def __init__(self):
    self._interpreter = Interpreter(model_content=content())
    weights, mask = start()
    sent = self.call(
      "set_weights",
      active_values=weights.prunable[mask],
      mask=np.packbits(mask),
      dense=weights.dense,
      batch_norm_mean=weights.batch_norm_mean,
      batch_norm_variance=weights.batch_norm_variance,
    )
    assert sent["active"].tolist() == [mask.sum()]

  def call(self, name, **inputs):
    inputs = inputs or {"unused": np.zeros(1, np.float32)}
    return self._interpreter.get_signature_runner(name)(**inputs)

  def signatures(self):
    return self._interpreter.get_signature_list()


def rows(count: int, seed: int = 1, size: int = BATCH):
  """Draws examples, and the same filled up to a batch of a size."""
  generator = np.random.default_rng(seed)
  x = generator.normal(size=(count, *SHAPE)).astype(np.float32)
  y = generator.integers(0, CLASSES, count).astype(np.int32)
  # What fills up must not matter.
  full = np.full((size, *SHAPE), 7.0, np.float32)
  labels = np.full(size, -1, np.int32)
  full[:count], labels[:count] = x, y
  return x, y, {"x": full, "y": labels}


def simulated(batch_sizes) -> tuple[tfmot_masking.ModelWeights, list[tasks.Metrics]]:
  """Trains as a simulated client does, on one batch after the other."""
  weights, mask = start()
  config = training_lib.TrainingConfig(OPTIMIZER, 1, BATCH)
  masked = tfmot_masking.MaskedModel(tiny())
  trainer = training_lib.LocalTrainer(tiny(), config, lambda records: records, masked)
  trainer.start(weights, mask, tf.constant(0.1))
  metrics = []
  for seed, count in enumerate(batch_sizes):
    x, y, _ = rows(count, seed)
    gradients, found = trainer.gradients(tf.constant(x), tf.constant(y, tf.int64))
    trainer.apply(gradients)
    metrics.append(found)
  return masked.read(), metrics


def assert_near(found, wanted):
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_functions():
  assert set(Device().signatures()) == {
    "set_weights", "get_weights", "train", "evaluate", "bn_statistics", "score",
    "top_gradients_0", "top_gradients_1",
  }  # fmt: skip
  # Android's interpreter runs none without.
  assert all(Device().signatures()[name]["inputs"] for name in Device().signatures())


def test_weights_come_back_as_they_were_set():
  weights, mask = start()
  found = Device().call("get_weights")
  np.testing.assert_array_equal(found["active_values"], weights.prunable[mask])
  for name in ("dense", "batch_norm_mean", "batch_norm_variance"):
    np.testing.assert_array_equal(found[name], getattr(weights, name))


def test_trains_as_the_simulation_does():
  sizes = [BATCH, BATCH, 2, BATCH]
  device, (weights, metrics) = Device(), simulated(sizes)
  for seed, (count, wanted) in enumerate(zip(sizes, metrics, strict=True)):
    _, _, filled = rows(count, seed)
    found = device.call("train", **filled, learning_rate=np.array([0.1], np.float32))
    assert found["examples"].tolist() == [count]
    assert_near(found["loss_sum"][0], wanted.loss_sum.numpy())
    assert found["correct"][0] == wanted.correct.numpy()
  sent = device.call("get_weights")
  _, mask = start()
  assert_near(sent["active_values"], weights.prunable.numpy()[mask])
  for name in ("dense", "batch_norm_mean", "batch_norm_variance"):
    assert_near(sent[name], getattr(weights, name).numpy())
  assert np.abs(sent["dense"] - start()[0].dense).max() > 0.01


def test_setting_weights_begins_anew():
  device, fresh = Device(), Device()
  _, _, filled = rows(BATCH)
  step = {**filled, "learning_rate": np.array([0.1], np.float32)}
  device.call("train", **step)
  weights, mask = start()
  again = dict(
    active_values=weights.prunable[mask],
    mask=np.packbits(mask),
    **{n: getattr(weights, n) for n in weights._fields[1:]},
  )
  device.call("set_weights", **again)
  device.call("train", **step)
  fresh.call("train", **step)
  np.testing.assert_array_equal(
    device.call("get_weights")["dense"], fresh.call("get_weights")["dense"]
  )


@pytest.mark.parametrize(("block", "counts"), [(0, [3]), (1, [4, 0])])
def test_top_gradients_are_the_simulation_s(block, counts):
  weights, mask = start()
  x, y, filled = rows(3)
  trainer = training_lib.LocalTrainer(
    tiny(), training_lib.TrainingConfig(OPTIMIZER, 1, BATCH), lambda records: records
  )
  trainer.start(weights, mask, tf.constant(0.1))
  gradients, _ = trainer.gradients(tf.constant(x), tf.constant(y, tf.int64))
  kernels = [tf.reshape(g, [-1]) for g in gradients[: len(tiny().spec.layers)]]
  wanted = adjustment(block).client_statistics(kernels, mask, tf.constant(counts))
  device = Device()
  found = device.call(
    f"top_gradients_{block}", **filled, counts=np.array(counts, np.int32)
  )
  np.testing.assert_array_equal(found["indices"], wanted.indices.numpy())
  assert_near(found["values"], wanted.values.numpy())
  # Nothing moved by it, running statistics least of all.
  after = device.call("get_weights")
  np.testing.assert_array_equal(after["batch_norm_mean"], weights.batch_norm_mean)


@pytest.mark.parametrize("count", [4, BATCH + 1])
def test_batch_norm_sums_are_the_simulation_s(count):
  weights, mask = start()
  x, _, filled = rows(count, size=BATCH + 1)
  probe = batch_statistics.MomentsProbe(tiny())
  wanted = probe.measure(
    tfmot_masking.ModelWeights(*map(tf.constant, weights)),
    tf.constant(mask),
    tf.constant(x),
    BATCH,
  )
  found = Device().call("bn_statistics", **filled)
  np.testing.assert_array_equal(found["count"], wanted.count.numpy())
  assert_near(found["first"], wanted.first.numpy())
  assert_near(found["second"], wanted.second.numpy())


def test_batch_norm_sums_leave_dropout_out():
  layers = tf.keras.layers

  def made(rate):
    inputs = layers.Input((3,))
    x = layers.Dense(4, name="first")(layers.Dropout(rate, name="dropout")(inputs))
    x = layers.BatchNormalization(name="norm")(x)
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x))

  def measured(rate):
    found = definition.define_model("dropping", lambda: made(rate))
    how = DeviceTraining(
      OPTIMIZER, batch_size=2, active=found.spec.size, blocks=(None,)
    )
    model = DeviceModel(found, how)
    function = model.functions()["bn_statistics"]
    x = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    for variable in model.variables:
      variable.assign(tf.ones_like(variable))
    sums = function(x=x, y=tf.zeros([3], tf.int32))
    return [each.numpy().tolist() for each in sums.values()]

  assert measured(0.9) == measured(0.0)


def test_scores_under_given_statistics_and_keeps_its_own():
  weights, mask = start()
  x, y, filled = rows(4)
  other = weights._replace(
    batch_norm_mean=weights.batch_norm_mean + 0.3,
    batch_norm_variance=weights.batch_norm_variance * 2,
  )

  def evaluated(given):
    evaluator = training_lib.Evaluator(tiny(), lambda records: (x, y), 4)
    return evaluator.evaluate(
      tfmot_masking.ModelWeights(*map(tf.constant, given)),
      tf.constant(mask),
      tf.zeros([4]),
    )

  device = Device()
  for name, given, extra in (
    ("score", other, ("batch_norm_mean", "batch_norm_variance")),
    ("evaluate", weights, ()),
  ):
    found = device.call(name, **filled, **{n: getattr(other, n) for n in extra})
    wanted = evaluated(given)
    assert_near(found["loss_sum"][0], wanted.loss_sum.numpy())
    assert found["correct"][0] == wanted.correct.numpy()
    assert found["examples"].tolist() == [4.0]


def test_what_tflite_cannot_train_is_refused_with_its_name():
  def with_lrn() -> tf.keras.Model:
    inputs = layers.Input((4, 4, 2))
    x = layers.Conv2D(4, 1, name="first")(inputs)
    x = layers.Lambda(tf.nn.local_response_normalization, name="lrn")(x)
    outputs = layers.Dense(2, name="logits")(layers.Flatten(name="flat")(x))
    return tf.keras.Model(inputs, outputs)

  defined = definition.define_model("lrn", with_lrn)
  model = DeviceModel(defined, DeviceTraining(OPTIMIZER, 2, 4))
  with pytest.raises(InputError, match="no builtin operator for LRNGrad"):
    device_file.device_file(model.variables, model.functions())


@pytest.mark.parametrize(
  ("layer", "said"),
  [
    (
      lambda: layers.Dropout(0.5, name="drop"),
      "model/drop/.*RandomUniform draws random",
    ),
    (lambda: layers.Dropout(0.5, seed=3, name="drop"), "model/drop/.* draws random"),
    (lambda: layers.GaussianNoise(1.0, name="noise"), "model/noise/.* draws random"),
    (
      lambda: layers.Lambda(
        lambda x: x * tf.cast(tf.random.categorical(x, 1), tf.float32), name="chance"
      ),
      "model/chance/.* draws random",
    ),
    (
      lambda: layers.ActivityRegularization(l2=0.1, name="own"),
      "adds a loss of its act",
    ),
  ],
)
def test_what_would_count_rows_or_chance_is_refused(layer, said):
  def made() -> tf.keras.Model:
    inputs = layers.Input((3,))
    x = layer()(layers.Dense(4, name="first")(inputs))
    return tf.keras.Model(inputs, layers.Dense(2, name="logits")(x), name="model")

  defined = definition.define_model("random", made)
  model = DeviceModel(defined, DeviceTraining(OPTIMIZER, 2, defined.spec.size))
  with pytest.raises(
    InputError, match=f"^the model cannot be trained on a device: .*{said}"
  ):
    device_file.device_file(model.variables, model.functions())


def test_weights_may_be_regularised():
  def made() -> tf.keras.Model:
    inputs = layers.Input((3,))
    outputs = layers.Dense(2, kernel_regularizer="l2", name="logits")(inputs)
    return tf.keras.Model(inputs, outputs)

  defined = definition.define_model("regularised", made)
  model = DeviceModel(defined, DeviceTraining(OPTIMIZER, 2, defined.spec.size))
  assert device_file.device_file(model.variables, model.functions())


@pytest.mark.parametrize(
  ("changes", "message"),
  [({"batch_size": 1}, "batch_size.*got 1"), ({"active": -1}, "active.*got -1")],
)
def test_wrong_settings_are_refused(changes, message):
  settings = {"optimizer": OPTIMIZER, "batch_size": 2, "active": 1, **changes}
  with pytest.raises(ValueError, match=message):
    DeviceTraining(**settings)
