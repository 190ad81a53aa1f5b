"""A device's round is the simulation's, from the message that arrives to the one sent."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.devices import device_messages, device_plan, device_tasks
from fedtiny_tff.devices.device_messages import Envelope, TensorLayout
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.training_rounds import client_work
from fedtiny_tff.local_training import batches
from fedtiny_tff.local_training import training as training_lib
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition
from fedtiny_tff.sparsity import positions
from tests.tflite_export.device_training import device_model_test as tiny
from tflite_export.device_training import device_bundle
from tflite_export.device_training.device_runtime import DeviceExamples, DeviceRuntime

CONFIG = training_lib.TrainingConfig(
  tiny.OPTIMIZER, local_epochs=2, batch_size=tiny.BATCH
)
SEED, CLIENT, ROUND = 11, 3, 1
layout_of = device_messages.layout_of


@functools.cache
def bundle() -> device_bundle.DeviceBundle:
  blocks = []
  for number in range(2):
    specs = tiny.adjustment(number).statistics_specs()._asdict()
    layouts = {
      name: TensorLayout(spec.dtype.name, tuple(spec.shape.as_list()))
      for name, spec in specs.items()
    }
    blocks.append(device_bundle.BlockRequest(tiny.device_block(number), layouts))
  active = int(tiny.start()[1].sum())
  return device_bundle.make_bundle(
    device_bundle.DeviceRequest(tiny.tiny(), CONFIG, active, blocks, 4, SEED)
  )


@functools.cache
def examples(count: int, seed: int) -> DeviceExamples:
  generator = np.random.default_rng(seed)
  return DeviceExamples(
    generator.normal(size=(count, *tiny.SHAPE)).astype(np.float32),
    generator.integers(0, tiny.CLASSES, count).astype(np.int32),
  )


def device(held_out: int = 11) -> DeviceRuntime:
  return DeviceRuntime(
    bundle().content, bundle().plan, CLIENT, examples(13, 0), examples(held_out, 1)
  )


def sent(kind: str, number: int, **more) -> bytes:
  weights, mask = tiny.start()
  code = positions.smallest_code(len(mask), int(mask.sum()))
  model = {
    "active_values": weights.prunable[mask],
    "positions": code.encode(tf.constant(mask)).numpy(),
    "dense": weights.dense,
    "batch_norm_mean": weights.batch_norm_mean,
    "batch_norm_variance": weights.batch_norm_variance,
  }
  return device_messages.write(
    Envelope(kind, bundle().plan.digest, number), model | more
  )


def round_message(*counts: int) -> bytes:
  return sent(
    "round", ROUND,
    learning_rate=np.array([0.1], np.float32), counts=np.array(counts, np.int32),
  )  # fmt: skip


def answer(content: bytes, kind: str, number: int, layouts, to: bytes = b""):
  digest = device_tasks.message_digest(to) if to else ""
  envelope = Envelope(kind, bundle().plan.digest, number, CLIENT, digest)
  return device_messages.read(content, envelope, layouts)


def simulated(block, counts, max_local_steps=0):
  """Returns what the simulated client makes of the same round."""
  weights, mask = tiny.start()
  given = examples(13, 0)
  config = dataclasses.replace(CONFIG, max_local_steps=max_local_steps)
  trainer = training_lib.LocalTrainer(
    tiny.tiny(),
    config,
    lambda rows: (
      tf.gather(given.inputs, rows),
      tf.gather(given.labels.astype(np.int64), rows),
    ),
  )
  seed = client_work.client_seed(SEED, tf.constant(ROUND), tf.constant(CLIENT))
  shuffled = batches.shuffled(tf.range(len(given)), config.local_epochs, seed)
  start = tfmot_masking.ModelWeights(*map(tf.constant, weights))
  arguments = (start, tf.constant(mask), shuffled, tf.constant(0.1))
  if block is None:
    trained, metrics = trainer.train(*arguments)
    return trained, metrics, None
  look = functools.partial(
    tiny.adjustment(block).client_statistics,
    mask=tf.constant(mask),
    counts=tf.constant(counts),
  )
  return trainer.train_with_statistics(*arguments, look)


@pytest.mark.parametrize(("block", "counts"), [(None, ()), (0, (2,)), (1, (3, 4))])
def test_a_round(block, counts):
  done = []
  message = round_message(*counts)
  content = device().train(message, ROUND, block, lambda *steps: done.append(steps))
  assert done[-1] == (6, 6)
  layouts = bundle().plan.update_layouts(block)
  found = answer(content, "update", ROUND, layouts, message)
  weights, mask = tiny.start()
  trained, metrics, statistics = simulated(block, counts)
  tiny.assert_near(found["active_values"], trained.prunable.numpy()[mask])
  tiny.assert_near(found["dense"], trained.dense.numpy())
  offset = trained.batch_norm_mean.numpy() - weights.batch_norm_mean
  tiny.assert_near(found["mean_offset"], offset)
  second = trained.batch_norm_variance.numpy() + offset**2
  tiny.assert_near(found["second_moment"], second)
  tiny.assert_near(found["loss_sum"][0], metrics.loss_sum.numpy())
  assert found["correct"][0] == metrics.correct.numpy()
  assert (found["examples"][0], found["weight"][0]) == (26, 13)
  if statistics is not None:
    np.testing.assert_array_equal(
      found["statistics.indices"], statistics.indices.numpy()
    )
    tiny.assert_near(found["statistics.values"], statistics.values.numpy())


def test_the_same_message_gets_the_same_answer():
  first = device()
  answers = [
    each.train(round_message(), ROUND, None, lambda *steps: None)
    for each in (first, first, device())
  ]
  assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("held_out", [0, 1, 11])
def test_moments_and_scores(held_out):
  plan, runtime = bundle().plan, device(held_out)
  message = sent("candidate", 2)
  moments = answer(
    runtime.measure(message, 2), "moments", 2, plan.moment_layouts(), message
  )
  # Images of 6 x 6 at stride 2 have 9 places, the hidden layer one.
  assert set(moments["count"].tolist()) == {9.0 * held_out, 1.0 * held_out}
  one = {n: TensorLayout("float32", (1,)) for n in ("loss_sum", "correct", "examples")}
  message = sent("scoring", 2)
  scored = answer(runtime.score(message, 2), "score", 2, one, message)
  assert scored["examples"].tolist() == [held_out]
  assert (scored["loss_sum"][0] > 0) == (held_out > 0)
  message = sent("evaluation", 3)
  assert answer(runtime.evaluate(message, 3), "figures", 3, one, message) == scored
  counts = answer(runtime.hello(), "hello", 0, device_plan.hello_layouts())
  assert (counts["training_examples"], counts["held_out_examples"]) == (13, held_out)


@pytest.mark.parametrize(
  ("message", "text"),
  [
    (lambda: round_message()[:-1], "no whole safetensors file"),
    (
      lambda: sent("round", 2, learning_rate=np.zeros(1, np.float32)),
      "its round is '2'",
    ),
    (lambda: sent("candidate", ROUND), "its kind is 'candidate'"),
    (lambda: round_message(2), r"counts is int32\[1\], expected is int32\[0\]"),
  ],
)
def test_other_messages_are_refused(message, text):
  with pytest.raises(InputError, match=text):
    device().train(message(), ROUND, None, lambda *steps: None)


def test_an_answer_to_another_message_is_refused():
  content = device().train(round_message(), ROUND, None, lambda *steps: None)
  with pytest.raises(InputError, match="its answers is"):
    answer(content, "update", ROUND, bundle().plan.update_layouts(None), b"other")


def test_another_plan_is_refused():
  other = dataclasses.replace(bundle().plan, seed=SEED + 1)
  runtime = DeviceRuntime(
    bundle().content, other, CLIENT, examples(13, 0), examples(3, 1)
  )
  with pytest.raises(InputError, match="its plan is"):
    runtime.train(round_message(), ROUND, None, lambda *steps: None)
  with pytest.raises(InputError, match="take both from the same export"):
    DeviceRuntime(
      bundle().content + b"0", bundle().plan, CLIENT, examples(3, 0), examples(3, 1)
    )


def without_norm() -> tf.keras.Model:
  inputs = tf.keras.layers.Input(tiny.SHAPE)
  x = tf.keras.layers.Flatten(name="flat")(inputs)
  return tf.keras.Model(inputs, tf.keras.layers.Dense(tiny.CLASSES, name="logits")(x))


@pytest.mark.parametrize("share", [0.5, pytest.param(0.0, marks=pytest.mark.slow)])
def test_a_model_without_batch_norm(share):
  found = definition.define_model("plain", without_norm, (("logits",),))
  active = int(share * found.spec.size)
  made = device_bundle.make_bundle(
    device_bundle.DeviceRequest(found, CONFIG, active, [], 4, SEED)
  )
  plan = made.plan
  mask = np.arange(found.spec.size) < active
  code = positions.smallest_code(len(mask), active)
  none = np.zeros(0, np.float32)
  model = {
    "active_values": np.full(active, 0.1, np.float32),
    "positions": code.encode(tf.constant(mask)).numpy(),
    "dense": np.zeros(plan.model.dense, np.float32),
    "batch_norm_mean": none,
    "batch_norm_variance": none,
  }
  runtime = DeviceRuntime(made.content, plan, CLIENT, examples(13, 0), examples(11, 1))

  def asked(work, kind, **more):
    message = device_messages.write(Envelope(kind, plan.digest, 1), model | more)
    return message, work(message, 1)

  message, content = asked(runtime.measure, "candidate")
  envelope = Envelope(
    "moments", plan.digest, 1, CLIENT, device_tasks.message_digest(message)
  )
  moments = device_messages.read(content, envelope, plan.moment_layouts())
  assert [moments[name].size for name in ("count", "first", "second")] == [0, 0, 0]
  message, content = asked(
    lambda sent, number: runtime.train(sent, number, None, lambda *steps: None),
    "round",
    learning_rate=np.array([0.1], np.float32),
    counts=np.zeros(0, np.int32),
  )
  envelope = Envelope(
    "update", plan.digest, 1, CLIENT, device_tasks.message_digest(message)
  )
  update = device_messages.read(content, envelope, plan.update_layouts(None))
  assert update["mean_offset"].size == update["second_moment"].size == 0
  assert np.abs(update["dense"]).max() > 0
  assert active == 0 or np.abs(update["active_values"] - 0.1).max() > 0
  assert asked(runtime.evaluate, "evaluation")[1]
  assert asked(runtime.score, "scoring")[1]
