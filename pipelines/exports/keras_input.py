"""Reads what a user hands over to be exported: a Keras model, examples, class names.

Every reader ends bad input in one line that names the file and the mend.
"""

import pathlib
from typing import Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from pipelines.apps import damage
from tflite_export import given_model


def read_data(
  path: pathlib.Path, model: tf.keras.Model
) -> tuple[np.ndarray, Optional[np.ndarray]]:
  """Reads `x` and, where there is one, `y`."""
  named = f"--representative_data={path}"
  if not path.is_file():
    raise InputError(f"{named}: not found; name a .npz file with `x`")
  try:
    with np.load(path, allow_pickle=False) as archive:
      # Members that are no arrays come as bytes.
      arrays = {
        name: np.asarray(archive[name]) for name in archive.files if name in ("x", "y")
      }
  except damage.ARCHIVE as error:
    raise InputError(
      f"{named}: cannot be read ({' '.join(str(error).split())}); write it with "
      "numpy.savez(FILE, x=inputs, y=labels), without objects"
    ) from error
  if "x" not in arrays:
    raise InputError(
      f"{named}: holds no `x`; write it with numpy.savez(FILE, x=inputs)"
    )
  inputs = given_model.check_inputs(f"{named}: `x`", arrays["x"], model)
  return inputs, arrays.get("y")


def read_class_names(
  path: Optional[pathlib.Path], model: tf.keras.Model, task: tasks.Task
) -> tuple[str, ...]:
  """Reads a name per line, or counts."""
  if not task.has_classes:
    return ()
  count = int(model.outputs[0].shape[-1])
  if path is None:
    return tuple(str(number) for number in range(count))
  try:
    # Editors of Windows mark UTF-8. A name may hold what `splitlines` ends lines at.
    names = path.read_text(encoding="utf-8-sig").split("\n")
  except UnicodeDecodeError as error:
    raise InputError(f"--labels={path}: is not UTF-8 text; save it as such") from error
  if not names[-1]:
    names.pop()
  if len(names) != count:
    raise InputError(
      f"--labels={path}: has {len(names)} lines, the model {count} outputs; write one "
      "name per line"
    )
  return tuple(names)
