"""Messages between a server and devices: named tensors in one file of bytes.

They are safetensors files, which hold numbers and text and nothing that runs. Whoever
reads one says which message it must be, of which plan and round, and what tensors it
must hold. Nothing else is taken: not another message, not one that was cut short,
altered, lengthened, or made for another plan. Neither TensorFlow nor TFF is needed.

Source: https://github.com/huggingface/safetensors#format
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Optional

import numpy as np
import safetensors
import safetensors.numpy

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError

FORMAT_VERSION = "1"

# What names, shapes and the envelope may take beside the numbers.
_HEADER_BYTES = 100_000
_TENSOR_HEADER_BYTES = 500
_ENVELOPE = "envelope"
_CHECKSUM = "checksum"
_MEND = "send it again as it was made"


@dataclasses.dataclass(frozen=True)
class Envelope:
  """Which message it is.

  Attributes:
    kind: `round`, `update`, ...
    plan: Digest of the plan that both sides work by.
    round_index: From 0.
    client: Who sent it; None for what the server sends to all.
    answers: Digest of the server's message that it answers, so that nothing counts
      that was made from another state; empty where it answers none.
  """

  kind: str
  plan: str
  round_index: int
  client: Optional[int] = None
  answers: str = ""

  def __post_init__(self) -> None:
    """Refuses negative numbers with a ValueError."""
    for name in ("round_index", "client"):
      if (getattr(self, name) or 0) < 0:
        raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

  def as_text(self) -> dict[str, str]:
    """Returns it as a message carries it."""
    told = {
      "version": FORMAT_VERSION,
      "kind": self.kind,
      "plan": self.plan,
      "round": str(self.round_index),
    }
    if self.client is not None:
      told["client"] = str(self.client)
    if self.answers:
      told["answers"] = self.answers
    return told

  def __str__(self) -> str:
    """Returns what an error calls the message."""
    sender = "" if self.client is None else f" of client {self.client}"
    return f"{self.kind} message{sender} for round {self.round_index}"


@dataclasses.dataclass(frozen=True)
class TensorLayout:
  """What a tensor of a message must be.

  Attributes:
    dtype: NumPy's name.
    shape: Every dimension.
  """

  dtype: str
  shape: tuple[int, ...]

  @property
  def size_bytes(self) -> int:
    """Returns how many bytes its numbers take."""
    return math.prod(self.shape) * np.dtype(self.dtype).itemsize

  def __str__(self) -> str:
    """Returns type and shape, as in `float32[2, 3]`."""
    return f"{self.dtype}{list(self.shape)}"


def layout_of(array: Array) -> TensorLayout:
  """Returns the layout that an array has."""
  return TensorLayout(array.dtype.name, tuple(array.shape))


def write(envelope: Envelope, tensors: Mapping[str, Array]) -> bytes:
  """Makes a message.

  Args:
    envelope: Which it is.
    tensors: By name.
  """
  arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
  told = envelope.as_text()
  told[_CHECKSUM] = _digest(told, arrays)
  # The library writes several texts in an order that changes from run to run.
  return safetensors.numpy.save(arrays, {_ENVELOPE: json.dumps(told, sort_keys=True)})


def largest_bytes(layouts: Mapping[str, TensorLayout]) -> int:
  """Returns how long a message of such tensors can be."""
  numbers = sum(layout.size_bytes for layout in layouts.values())
  return numbers + _HEADER_BYTES + _TENSOR_HEADER_BYTES * len(layouts)


def read(
  content: bytes, envelope: Envelope, layouts: Mapping[str, TensorLayout]
) -> dict[str, Array]:
  """Reads a message, if it is the one it must be.

  Args:
    content: The message.
    envelope: Which it must be.
    layouts: By name, the tensors that it must hold, and no others.

  Raises:
    InputError: In one line, what it is instead.
  """
  where = str(envelope)
  if len(content) > largest_bytes(layouts):
    raise InputError(
      f"{where}: has {len(content):,} bytes, at most {largest_bytes(layouts):,} are "
      f"possible; {_MEND}"
    )
  told, arrays = _parsed(content, where)
  _check_envelope(told, envelope)
  _check_tensors(arrays, layouts, where)
  checksum = told.pop(_CHECKSUM, None)
  if checksum != _digest(told, arrays):
    raise InputError(f"{where}: its checksum is wrong, so it was altered; {_MEND}")
  return arrays


def _parsed(content: bytes, where: str) -> tuple[dict[str, str], dict[str, Array]]:
  """Returns the text and the tensors of a safetensors file."""
  try:
    arrays = safetensors.numpy.load(content)
    told = _metadata(content)
  # The library lets errors of its JSON and of NumPy through, and takes null for no text.
  except (
    safetensors.SafetensorError, AttributeError, ValueError, TypeError, KeyError,
    RecursionError,
  ) as error:  # fmt: skip
    raise InputError(
      f"{where}: is no whole safetensors file ({error}); {_MEND}"
    ) from error
  return told, arrays


def _metadata(content: bytes) -> dict[str, str]:
  """Returns what the envelope of a safetensors file says that was parsed before."""
  length = int.from_bytes(content[:8], "little")
  header = json.loads(content[8 : 8 + length])
  told = json.loads(header.get("__metadata__", {}).get(_ENVELOPE, "{}"))
  if not isinstance(told, dict):
    raise ValueError("its envelope names nothing")
  return {str(name): str(text) for name, text in told.items()}


def _check_envelope(told: Mapping[str, str], envelope: Envelope) -> None:
  wanted = envelope.as_text()
  for name in (*wanted, *told):
    if name == _CHECKSUM or told.get(name) == wanted.get(name):
      continue
    raise InputError(
      f"{envelope}: its {name} is {told.get(name, 'missing')!r}, expected "
      f"{wanted.get(name, 'none')!r}; send what belongs to this {name}"
    )


def _check_tensors(
  arrays: Mapping[str, Array], layouts: Mapping[str, TensorLayout], where: str
) -> None:
  if arrays.keys() != layouts.keys():
    raise InputError(
      f"{where}: holds {', '.join(sorted(arrays)) or 'nothing'}; expected are "
      f"{', '.join(sorted(layouts))}"
    )
  for name, layout in layouts.items():
    if layout_of(arrays[name]) != layout:
      raise InputError(
        f"{where}: {name} is {layout_of(arrays[name])}, expected is {layout}; make it "
        "with the plan's own model file"
      )


def _digest(told: Mapping[str, str], arrays: Mapping[str, Array]) -> str:
  """Returns the SHA-256 of everything that a message says."""
  digest = hashlib.sha256()
  for name, text in sorted(told.items()):
    digest.update(f"{len(name)}:{name}={len(text)}:{text};".encode())
  for name, array in sorted(arrays.items()):
    digest.update(f"{len(name)}:{name}={layout_of(array)};".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()
