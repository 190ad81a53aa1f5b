"""A Keras model on disk with its examples, and the export app over it."""

import numpy as np

from pipelines import export
from tests.pipelines import support
from tests.tflite_export import models


def save(model, path):
  model.save(path)
  return path


def save_data(path, x, **more):
  np.savez(path, x=x, **more)
  return path


def make_work(folder):
  """Writes a pruned model with examples, labelled by itself, and without labels."""
  model, _ = models.trained(0.1)
  save(model, folder / "net.keras")
  x = models.random_inputs(24)
  save_data(folder / "d.npz", x, y=np.argmax(model(x).numpy(), axis=1))
  save_data(folder / "unlabelled.npz", x)
  return folder


def arguments(model, data, output, *more):
  return [
    f"--keras_model={model}", f"--representative_data={data}", f"--output_dir={output}",
    *more,
  ]  # fmt: skip


def call(*arguments):
  return support.call("export", export.main, *map(str, arguments))
