"""What training on a device takes: LiteRT against TensorFlow, side by side.

Memory is the resident memory of processes of their own, measured, in 10^6 bytes: of a
device's client when it has `started` (libraries and 384 examples), with its `model`, after
`training`, after a round that is `adjusting` a block, and at its `peak`; and the peaks
of TensorFlow training the same masked model, and the dense one. Steps of 32 examples take
turns on one core; `step_ratio` is LiteRT's time over TensorFlow's. Bytes are whole
messages, beside the dense model's four bytes a parameter.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import device_child, results_file
from fedtiny_tff.devices import device_messages
from fedtiny_tff.devices.device_messages import Envelope
from fedtiny_tff.federated import states
from fedtiny_tff.federated.device_rounds import device_reports
from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure.definition import ModelDefinition
from fedtiny_tff.models import registry
from fedtiny_tff.strategies import base, fedtiny
from pipelines.devices import device_bundles
from pipelines.settings import config as config_lib

# Model, shape of an example, classes.
_CASES = (
  ("digits_cnn", (8, 8, 1), 10),
  ("resnet8", (32, 32, 3), 10),
  ("ds_cnn", (49, 10, 1), 12),
  ("mobilenet_v2_sparse", (32, 32, 3), 10),
)
_DENSITY = 0.1
_TURNS = 3
_CORE = 0
_RATE = 0.05
_FLAGS = (
  f"--batch_size={device_child.BATCH}", "--local_epochs=1", "--rounds=60",
  "--adjust_every_rounds=3", "--adjust_until_round=40", "--output_dir=unused",
  f"--target_density={_DENSITY}", f"--client_learning_rate={_RATE}",
)  # fmt: skip


def _config() -> config_lib.RunConfig:
  flags.FLAGS(["device_training", *_FLAGS])
  return config_lib.from_flags()


def _start(found: ModelDefinition, density: float) -> states.ServerState:
  weights = tfmot_masking.initial_weights(found, 0)
  sizes = found.spec.sizes
  masks = [np.arange(size) < max(1, round(size * density)) for size in sizes]
  mask = np.concatenate(masks)
  arrays = tfmot_masking.ModelWeights(*map(np.asarray, weights))
  return states.ServerState(
    arrays._replace(prunable=arrays.prunable * mask), mask, np.int32(0)
  )


def _write(folder: pathlib.Path, found: ModelDefinition) -> dict[str, int]:
  """Writes what a device is sent; returns the bytes of the messages."""
  start, config = _start(found, _DENSITY), _config()
  strategy, spec = fedtiny.FedTiny(), found.spec
  events = strategy.plan_events(spec, spec.active_counts(start.mask), config.pruning)
  bundle = device_bundles.bundle_of(
    config, base.plan_one_model(strategy, found), int(np.count_nonzero(start.mask))
  )
  (folder / "model.tflite").write_bytes(bundle.content)
  (folder / "client_plan.json").write_text(bundle.plan.as_json())
  block = device_child.ADJUSTED_BLOCK
  counts = next(event.counts for event in events if event.block == block)
  model = device_reports.state_tensors(start)
  rate = {"learning_rate": np.array([_RATE], np.float32)}
  sent = {
    "round": ("round", model | rate | {"counts": np.zeros(0, np.int32)}),
    "adjusting": ("round", model | rate | {"counts": np.array(counts, np.int32)}),
    "candidate": ("candidate", model),
    "evaluation": ("evaluation", model),
  }
  lengths = {}
  for name, (kind, tensors) in sent.items():
    content = device_messages.write(Envelope(kind, bundle.plan.digest, 0), tensors)
    (folder / name).write_bytes(content)
    lengths[name] = len(content)
  return {"file_bytes": len(bundle.content), "round_bytes": lengths["round"]}


def in_tensorflow(found: ModelDefinition, density: float) -> dict[str, Any]:
  """Trains the same steps in TensorFlow, in this process."""
  features, labels = device_child.examples(found.build().input_shape[1:])
  trainer = training.LocalTrainer(found, _config().training, lambda records: records)
  start = _start(found, density)
  trainer.start(
    tfmot_masking.ModelWeights(*map(tf.constant, start.weights)),
    tf.constant(start.mask),
    tf.constant(_RATE),
  )

  @tf.function
  def step(x: tf.Tensor, y: tf.Tensor) -> None:
    trainer.apply(trainer.gradients(x, y)[0])

  times = []
  for first in range(0, len(labels), device_child.BATCH):
    rows = slice(first, first + device_child.BATCH)
    step(tf.constant(features[rows]), tf.constant(labels[rows], tf.int64))
    times.append(time.process_time())
  return {
    "step_seconds": device_child.median_step(times),
    "peak_mb": device_child.memory_mb("VmHWM"),
  }


def _child(module: str, *arguments: str) -> dict[str, Any]:
  command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
  done = subprocess.run(
    command, check=True, stdout=subprocess.PIPE, text=True,
    preexec_fn=lambda: os.sched_setaffinity(0, {_CORE}),
  )  # fmt: skip
  return json.loads(done.stdout.splitlines()[-1])


def measure(case: tuple[str, tuple[int, ...], int]) -> dict[str, Any]:
  """Measures one model, LiteRT and TensorFlow in turn."""
  found = registry.get_model(*case)
  name = case[0]
  with tempfile.TemporaryDirectory() as folder:
    lengths = _write(pathlib.Path(folder), found)
    litert, sparse = [], []
    for _ in range(_TURNS):
      litert.append(_child("device_child", folder))
      sparse.append(_child("device_training", name, str(_DENSITY)))
  dense = _child("device_training", name, "1")
  sizes = tfmot_masking.vector_sizes(found)
  ratios = [
    on_device["step_seconds"] / simulated["step_seconds"]
    for on_device, simulated in zip(litert, sparse, strict=True)
  ]
  return {
    "model": name,
    **{key: value for key, value in litert[0].items() if key != "step_seconds"},
    "tensorflow_peak_mb": sparse[0]["peak_mb"],
    "tensorflow_dense_peak_mb": dense["peak_mb"],
    "step_seconds": min(each["step_seconds"] for each in litert),
    "step_ratio": statistics.median(ratios),
    **lengths,
    "dense_model_bytes": 4 * sum(sizes),
  }


def main() -> None:
  """Measures every model; with arguments, is the child that trains in TensorFlow."""
  cases = {case[0]: case for case in _CASES}
  if len(sys.argv) > 1:
    name, density = sys.argv[1:]
    found = registry.get_model(*cases[name])
    print(json.dumps(in_tensorflow(found, float(density))))
    return
  results_file.publish("device_training", [measure(case) for case in _CASES])


if __name__ == "__main__":
  main()
