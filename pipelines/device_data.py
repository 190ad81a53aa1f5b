"""Writes each client's examples to a file of its own, for devices."""

import pathlib
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional

from absl import flags

from pipelines.apps import app, files
from pipelines.settings import data_flags, run_dir_flag

if TYPE_CHECKING:
  from pipelines.apps.progress import Progress
  from pipelines.datasets.data_folder import RunData
  from pipelines.devices.device_examples import OwnExamples

_SUMMARY = """
Writes what each client of a run trains on, and what it holds out, as a device reads it:
the same numbers in the same order as the simulation feeds the model with.

  python -m pipelines.device_data --flagfile=pipelines/presets/digits.flags \\
    --output_dir=devices
  python -m pipelines.device_data --run_dir=runs/digits --output_dir=devices

Flags are those of the run, which need not have begun; or --run_dir names one that has.
Files are client_000000.safetensors, client_000001.safetensors, ...: float32 inputs,
preprocessed, and int32 labels, of the training and of the held-out part. Each belongs on
its own device only. Other flags of a run are allowed and have no influence.
"""

_GROUPS = {
  "Run that has begun": list(run_dir_flag.GROUPS["Run"]),
  **data_flags.GROUPS,
  "Output": ["output_dir", "model", "seed"],
}


def main() -> Optional[int]:
  """Writes the files."""
  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  progress = Progress()
  folder = files.new_folder(flags.FLAGS.output_dir, "output_dir")
  run_dir = flags.FLAGS["run_dir"].value
  if run_dir:
    run_dir_flag.read()
  flag_values.check_flags()
  with progress.loading():
    from pipelines.datasets import data_stage
    from pipelines.runs import run_directory
    from pipelines.settings import config as config_lib
    from pipelines.training import experiments

  config = config_lib.from_flags()
  own = run_directory.RunDirectory(run_dir).data if run_dir else None
  experiment = experiments.plan_experiment(config, own, progress, is_begun=True)
  with (
    tempfile.TemporaryDirectory() as scratch,
    files.making_folder(folder, "output_dir") as fresh,
  ):
    data = data_stage.write_data(experiment.data, own or pathlib.Path(scratch))
    count = _write(data, fresh, progress)
  print(f"Written to {folder}: the examples of {count:,} clients")
  return None


def reader(data: "RunData") -> Callable[[int], "OwnExamples"]:
  """Returns what reads a client's examples.

  In a graph, as the simulation does: eagerly, last digits may differ.

  Args:
    data: The run's data.
  """
  import numpy as np
  import tensorflow as tf

  from pipelines.devices.device_examples import OwnExamples
  from tflite_export.device_training.device_runtime import DeviceExamples

  store = data.clients
  decoded = tf.function(lambda first, count: store.decode(store.read(first, count)))

  def part(first: int, count: int) -> DeviceExamples:
    places = (tf.constant(each, tf.int64) for each in (first, count))
    inputs, labels = (array.numpy() for array in decoded(*places))
    return DeviceExamples(inputs, labels.astype(np.int32))

  def read(client: int) -> OwnExamples:
    _, first, training, held_out = map(int, data.reference(client))
    return OwnExamples(part(first, training), part(first + training, held_out))

  return read


def _write(data: "RunData", folder: pathlib.Path, progress: "Progress") -> int:
  """Writes every client's file; returns how many they are."""
  from pipelines.devices import device_examples

  read = reader(data)
  count = len(data.references)
  with progress.steps("client", count, 0) as steps:
    for client in range(count):
      examples = read(client)
      device_examples.write(folder / device_examples.file_name(client), examples)
      steps.advance(f"{sum(map(len, examples)):,} examples")
  return count


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, _GROUPS, goes_on=False))
