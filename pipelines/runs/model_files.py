"""The final model on disk: `model/model.keras`, `masks.npz` and `task.txt`."""

import pathlib

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import keras_archive
from pipelines.apps import files
from tflite_export.conversion import channel_equalisation


def save(
  folder: pathlib.Path,
  model: tf.keras.Model,
  masks: dict[str, np.ndarray],
  task: tasks.Task,
) -> None:
  """Writes all, or nothing.

  Args:
    folder: Where; replaced as a whole.
    model: Plain Keras model, pruned weights zero.
    masks: Layer name to bool array in the kernel's shape.
    task: What the model is for.
  """
  with files.replacing_folder(folder) as fresh:
    model.save(fresh / "model.keras")
    np.savez_compressed(fresh / "masks.npz", **masks)
    (fresh / "task.txt").write_text(f"{task.name}\n")


def read_task(folder: pathlib.Path) -> tasks.Task:
  """Reads what the model is for; the user's own code is not needed for it.

  Raises:
    InputError: When it is missing or damaged.
  """
  path = folder / "task.txt"
  if not path.is_file():
    raise InputError(f"{path}: not found; train the run first (pipelines.train)")
  name = path.read_text(errors="replace").strip()
  if name not in tasks.TASKS:
    raise InputError(
      f"{path}: must say {' or '.join(tasks.TASKS)}, got {name!r}; delete the folder "
      "and run the training command again"
    )
  return tasks.TASKS[name]


def load(folder: pathlib.Path) -> tuple[tf.keras.Model, dict[str, np.ndarray]]:
  """Reads model and masks.

  Returns:
    The model, its channels equalised: its outputs are the same, and int8 keeps them
    better. Layer name to bool array in the kernel's shape.

  Raises:
    InputError: When they are missing or damaged.
  """
  path = folder / "model.keras"
  if not path.is_file():
    raise InputError(f"{path}: not found; train the run first (pipelines.train)")
  try:
    # A run directory may come from anybody, too.
    model = keras_archive.read(path)
    with np.load(folder / "masks.npz", allow_pickle=False) as archive:
      masks = {name: archive[name] for name in archive.files}
    for name, mask in masks.items():
      shape = tuple(model.get_layer(name).kernel.shape)
      if mask.dtype != bool or mask.shape != shape:
        raise ValueError(f"mask {name} is {mask.dtype}{list(mask.shape)}, not {shape}")
    if not masks:
      raise ValueError("no mask")
  except Exception as error:
    is_told = isinstance(error, InputError)
    raise InputError(
      f"{folder}: model or masks cannot be read "
      f"({error if is_told else type(error).__name__}); "
      "delete the folder and run the training command again"
    ) from error
  channel_equalisation.equalise(model)
  return model, masks
