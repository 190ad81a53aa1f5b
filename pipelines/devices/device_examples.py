"""A device's own examples in one safetensors file, as the model is fed with them.

    training_inputs   float32 [n, ...]    training_labels   int32 or int64 [n]
    held_out_inputs   float32 [m, ...]    held_out_labels   int32 or int64 [m]

NumPy and safetensors alone: devices read it.
"""

import pathlib
from typing import NamedTuple, Optional

import numpy as np
import safetensors
import safetensors.numpy

from fedtiny_tff.errors import InputError
from pipelines.apps import files
from tflite_export.device_training.device_runtime import DeviceExamples

_PARTS = ("training", "held_out")
_MEND = "write it with python -m pipelines.device_data"


class OwnExamples(NamedTuple):
  """What one device has.

  Attributes:
    training: What it trains on.
    held_out: What it judges models on.
  """

  training: DeviceExamples
  held_out: DeviceExamples


def file_name(client: int) -> str:
  """Returns the name of a client's file."""
  return f"client_{client:06d}.safetensors"


def write(path: pathlib.Path, examples: OwnExamples) -> None:
  """Writes a device's examples, whole or not at all."""
  arrays = {}
  for name, part in zip(_PARTS, examples, strict=True):
    arrays[f"{name}_inputs"] = np.ascontiguousarray(part.inputs, np.float32)
    arrays[f"{name}_labels"] = np.ascontiguousarray(part.labels, np.int32)
  files.write_bytes(path, safetensors.numpy.save(arrays))


def read(name: Optional[str], flag: str = "data") -> OwnExamples:
  """Reads a device's examples.

  Args:
    name: The file.
    flag: Flag that named it, for the message.

  Raises:
    InputError: When it cannot be read, or holds no such examples.
  """
  if not name:
    raise InputError(f"--{flag} is missing: name the file of this device's examples")
  where = f"--{flag}={name}"
  try:
    with safetensors.safe_open(name, framework="numpy") as file:
      found = set(file.keys())
      wanted = {f"{part}_{kind}" for part in _PARTS for kind in ("inputs", "labels")}
      if found != wanted:
        raise InputError(
          f"{where}: holds {', '.join(sorted(found)) or 'nothing'}, expected are "
          f"{', '.join(sorted(wanted))}; {_MEND}"
        )
      arrays = {key: file.get_tensor(key) for key in sorted(wanted)}
  # The library lets errors of its JSON and of NumPy through.
  except (
    safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError,
  ) as error:  # fmt: skip
    if isinstance(error, InputError):
      raise
    raise InputError(f"{where}: cannot be read ({error}); {_MEND}") from error
  parts = [
    _part(f"{where}: {part}", arrays[f"{part}_inputs"], arrays[f"{part}_labels"])
    for part in _PARTS
  ]
  return OwnExamples(*parts)


def _part(where: str, inputs: np.ndarray, labels: np.ndarray) -> DeviceExamples:
  """Checks what training or evaluation is to use.

  Raises:
    InputError: When a model could not be fed with it.
  """
  if inputs.dtype != np.float32 or inputs.ndim < 2:
    raise InputError(
      f"{where}_inputs are {inputs.dtype} {list(inputs.shape)}, expected is float32 "
      f"[examples, ...]; {_MEND}"
    )
  if labels.dtype not in (np.int32, np.int64) or labels.shape != inputs.shape[:1]:
    raise InputError(
      f"{where}_labels are {labels.dtype} {list(labels.shape)}, expected is int32 or "
      f"int64 [{len(inputs)}]; {_MEND}"
    )
  if len(labels) and not 0 <= labels.min() <= labels.max() < 2**31:
    raise InputError(
      f"{where}_labels go from {labels.min()} to {labels.max()}, which no classes are; "
      f"{_MEND}"
    )
  is_finite = np.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim)))
  bad = np.flatnonzero(~is_finite)
  if len(bad):
    raise InputError(
      f"{where}_inputs: example {bad[0]} has a value that is no number; leave it out"
    )
  return DeviceExamples(inputs, labels.astype(np.int32))
