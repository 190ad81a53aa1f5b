"""The client of a federation is exported whole, verified, and refused where it is wrong."""

import copy
import dataclasses
import functools
import json

import jsonschema
import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.devices import device_messages, device_plan, device_tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import optimizers
from fedtiny_tff.local_training import training as training_lib
from fedtiny_tff.model_structure import definition
from tests.tflite_export import models
from tflite_export.artifacts import ExportRequest, VerificationError
from tflite_export.device_training import device_bundle, device_file
from tflite_export.device_training.device_model import (
  DeviceBlock,
  DeviceModel,
  DeviceTraining,
)
from tflite_export.devices import device_client, device_kotlin, device_verify
from tflite_export.provenance import Provenance

layers = tf.keras.layers
VALUES, CLASSES, BATCH, ROWS = 5, 3, 4, 22


def build(activation: str = "relu") -> tf.keras.Model:
  inputs = layers.Input([VALUES])
  x = layers.Dense(6, use_bias=False, name="hidden")(inputs)
  x = layers.Activation(activation, name="act")(
    layers.BatchNormalization(name="norm")(x)
  )
  return tf.keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x), name="dense")


@functools.cache
def defined() -> definition.ModelDefinition:
  return definition.define_model("a|dense", build, (("hidden",), ("logits",)))


def masks() -> dict[str, np.ndarray]:
  generator = np.random.default_rng(0)
  return {
    "hidden": generator.random((VALUES, 6)) < 0.4,
    "logits": generator.random((6, CLASSES)) < 0.6,
  }


def trained(activation: str = "relu") -> tf.keras.Model:
  model = build(activation)
  models.randomise(model, 1)
  for name, mask in masks().items():
    kernel = model.get_layer(name).kernel
    kernel.assign(kernel * mask)
  return model


def device_request() -> device_bundle.DeviceRequest:
  active = sum(int(mask.sum()) for mask in masks().values())
  adjusted = DeviceBlock(1, lambda gradients, mask, counts: {"all": gradients[1] + 0.0})
  layouts = {"all": device_messages.TensorLayout("float32", (6 * CLASSES,))}
  config = training_lib.TrainingConfig(optimizers.OptimizerConfig(), 2, BATCH)
  return device_bundle.DeviceRequest(
    defined(),
    config,
    active,
    [None, device_bundle.BlockRequest(adjusted, layouts)],
    7,
    3,
  )


def request(**changes) -> ExportRequest:
  generator = np.random.default_rng(2)
  given = {
    "model": trained(),
    "masks": masks(),
    "task": tasks.CLASSIFY,
    "calibration": np.zeros([0], np.float32),
    "evaluation_inputs": generator.normal(size=(ROWS, VALUES)).astype(np.float32),
    "evaluation_labels": generator.integers(0, CLASSES, ROWS),
    "class_names": ("a", "b", "c"),
    "provenance": Provenance("a|dense", "1", "MIT", "Random.", {}, "", ""),
    "device": device_request(),
  }
  return ExportRequest(**given | changes)


@functools.cache
def exported():
  return device_client.export_device_client(request())


@functools.cache
def bundle() -> device_bundle.DeviceBundle:
  folder = exported().files
  text = folder["device_client/client_plan.json"].decode()
  return device_bundle.DeviceBundle(
    folder["device_client/model.tflite"], device_plan.read_plan(text, "plan")
  )


def test_the_artifact_s_figures():
  (artifact,) = exported().artifacts
  given = request()
  outputs = given.model(given.evaluation_inputs).numpy()
  hits = np.argmax(outputs, axis=1) == given.evaluation_labels
  assert artifact.accuracy == hits.mean()
  assert artifact.class_accuracy == tuple(
    hits[given.evaluation_labels == label].mean() for label in range(CLASSES)
  )
  kept = sum(int(mask.sum()) for mask in masks().values())
  assert artifact.density == kept / (VALUES * 6 + 6 * CLASSES)
  assert artifact.argmax_agreement == 1.0
  assert 0 <= artifact.max_abs_error < 1e-5
  assert (artifact.path, artifact.format) == (
    "device_client/model.tflite",
    "fp32_training",
  )
  assert artifact.bytes == artifact.dense_bytes == len(bundle().content)


def test_the_folder():
  names = {name.removeprefix("device_client/") for name in exported().files}
  assert names == {
    "model.tflite", "client_plan.json", "client_plan.schema.json", "README.md", "labels.txt",
    "ClientPlan.kt", "DeviceClient.kt", "DeviceRuntime.kt", "DeviceWorker.kt",
    "HttpExchange.kt", "Json.kt", "Messages.kt", "Philox.kt", "Positions.kt",
  }  # fmt: skip
  readme = exported().files["device_client/README.md"].decode()
  assert readme.startswith("# a\\|dense: ")
  assert (
    "| `top_gradients_1(counts: int32[1], x: float32[4, 5], y: int32[4])`" in readme
  )
  assert "builtin operators alone" in readme


def test_the_sources_name_the_file_s_functions():
  signatures = device_kotlin.read_signatures(bundle().content)
  assert signatures["top_gradients_1"].outputs == bundle().plan.blocks[1].statistics
  sources = device_kotlin.sources(bundle())
  text = sources["ClientPlan.kt"]
  assert f'SHA256 = "{bundle().plan.digest}"' in text
  assert '"top_gradients_1" to Signature(' in text
  assert 'Block(listOf("hidden"), null, mapOf())' in text
  # What the contract names must be what the template names.
  for work, exchange in device_tasks.WORK.items():
    wanted = f'("{work}", "{exchange.sent}", "{exchange.answer}")'
    assert not exchange.sent or wanted in sources["DeviceClient.kt"]


def test_the_plan_follows_its_schema():
  schema = json.loads(device_client.schema_text())
  jsonschema.Draft202012Validator.check_schema(schema)
  plan = json.loads(bundle().plan.as_json())
  jsonschema.validate(plan, schema)
  assert exported().files["device_client/client_plan.schema.json"].decode() == (
    device_client.schema_text()
  )


@pytest.mark.parametrize(
  "change",
  [
    lambda plan: plan.update(version=2),
    lambda plan: plan.pop("seed"),
    lambda plan: plan.update(more=1),
    lambda plan: plan.update(batch_size=1),
    lambda plan: plan["model"].update(sha256="0" * 63),
    lambda plan: plan["model"].update(task="guess"),
    lambda plan: plan["model"].update(active=-1),
    lambda plan: plan["model"].update(input_shape=[]),
    lambda plan: plan["blocks"][0].update(layers=[]),
    lambda plan: plan["blocks"][1]["statistics"]["all"].update(dtype="object"),
    lambda plan: plan["blocks"][1]["statistics"]["all"].update(shape=[1.5]),
  ],
)
def test_other_plans_do_not(change):
  plan = json.loads(bundle().plan.as_json())
  broken = copy.deepcopy(plan)
  change(broken)
  assert broken != plan
  with pytest.raises(jsonschema.ValidationError):
    jsonschema.validate(broken, json.loads(device_client.schema_text()))


def test_without_labels_there_is_no_accuracy():
  figures = device_verify.verify(bundle(), request(evaluation_labels=None))
  assert (figures.accuracy, figures.class_accuracy) == (None, None)
  assert figures.argmax_agreement == 1.0


def test_another_model_is_found_out():
  with pytest.raises(VerificationError, match=r"the mean loss of .* rows is"):
    device_verify.verify(bundle(), request(model=trained("tanh")))


def test_a_model_of_no_run_is_refused():
  with pytest.raises(InputError, match="--run_dir"):
    device_client.export_device_client(request(device=None))


def test_a_damaged_file_is_found_out():
  broken = dataclasses.replace(bundle(), content=bundle().content[:-3000])
  with pytest.raises((VerificationError, InputError)):
    device_verify.verify(broken, request())


class _Forgetting(DeviceModel):
  """Does not give back what it was given."""

  def _get_weights(self, unused):
    found = super()._get_weights(unused)
    return {**found, "dense": found["dense"] * 0.5}


class _Growing(DeviceModel):
  """Lets weights grow that are pruned, for as many that go."""

  def _train(self, x, y, learning_rate):
    found = super()._train(x, y, learning_rate)
    for mask, kernel in zip(self._masked.masks, self._masked.kernels, strict=True):
      turned = tf.reverse(tf.reshape(mask, [-1]), [0])
      mask.assign(tf.reshape(turned, mask.shape))
      kernel.assign_add(tf.ones_like(kernel))
    return found


class _Idle(DeviceModel):
  """Does not learn."""

  def _train(self, x, y, learning_rate):
    return super()._train(x, y, learning_rate * 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("made", "message"),
  [
    (_Forgetting, "weights come back changed: dense"),
    (_Growing, "a step of training changes pruned weights"),
    (_Idle, "a step of training changes nothing"),
  ],
)
def test_files_that_train_wrongly_are_found_out(made, message):
  given = device_request()
  model = made(
    given.definition, DeviceTraining(given.training.optimizer, BATCH, given.active)
  )
  content = device_file.device_file(model.variables, model.functions())
  with pytest.raises(VerificationError, match=message):
    device_verify.verify(dataclasses.replace(bundle(), content=content), request())
