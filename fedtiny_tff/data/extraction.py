"""What is made of a raw example before it is stored: declared, so that it can travel.

`EXTRACTIONS` has a class per kind. An extraction is its parameters: they are written as
JSON, told in words, and applied with the same TensorFlow operations wherever it goes.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.extraction_base import Extraction, Resize
from fedtiny_tff.data.signal_extraction import LogMel, Mfcc
from fedtiny_tff.errors import InputError

_WINDOW_SECONDS = 0.03
_HOP_SECONDS = 0.02
_HIGHEST_HZ = 4000.0
# Spectra of so many signals are in memory together.
_ROWS_AT_ONCE = 64

_CLASSES: tuple[type[Extraction], ...] = (Extraction, Resize, LogMel, Mfcc)

NO_EXTRACTION = Extraction()
EXTRACTIONS = {each.kind: each for each in _CLASSES}


def _class_of(kind: object) -> type[Extraction]:
  if not isinstance(kind, str) or kind not in EXTRACTIONS:
    raise InputError(
      f"extraction must be one of {', '.join(EXTRACTIONS)}, got {kind!r:.80}"
    )
  return EXTRACTIONS[kind]


def declare(
  kind: str,
  raw_shape: Sequence[int],
  sample_rate_hz: int = 16_000,
  image_size: Optional[tuple[int, int]] = None,
) -> Extraction:
  """Declares an extraction with the values that are usual in keyword spotting.

  Args:
    kind: Key of `EXTRACTIONS`.
    raw_shape: Shape of a raw example; [samples] for signals.
    sample_rate_hz: Of signals.
    image_size: Height and width that "resize" makes.

  Raises:
    InputError: When raw examples of that shape cannot be used.
  """
  made = _class_of(kind)
  if made is Resize:
    if image_size is None:
      raise InputError("resize needs a height and a width to make; give an image size")
    extraction: Extraction = Resize(*image_size)
  elif issubclass(made, LogMel):
    if len(raw_shape) != 1:
      raise InputError(
        f"{kind} takes signals of shape [samples], got {list(raw_shape)}; give one "
        "channel"
      )
    extraction = made(
      samples=int(raw_shape[0]),
      sample_rate_hz=sample_rate_hz,
      window_samples=round(_WINDOW_SECONDS * sample_rate_hz),
      hop_samples=round(_HOP_SECONDS * sample_rate_hz),
      upper_hz=min(_HIGHEST_HZ, sample_rate_hz / 2),
    )
  else:
    extraction = made()
  extraction.output_shape(raw_shape)
  return extraction


def from_json(document: object) -> Extraction:
  """Reads what `to_json` returns, from anywhere.

  Raises:
    InputError: Naming what is missing, unknown or out of range.
  """
  if not isinstance(document, Mapping):
    raise InputError(f"extraction must be an object with a kind, got {document!r:.80}")
  made = _class_of(document.get("kind"))
  given = {name: value for name, value in document.items() if name != "kind"}
  fields = {field.name: field.type for field in dataclasses.fields(made)}
  odd = sorted(set(map(str, given)) ^ set(fields))
  if odd:
    raise InputError(
      f"{made.kind}: parameters must be {', '.join(fields) or 'none'}; wrong or missing: "
      f"{', '.join(odd):.80}"
    )
  for name, of_type in fields.items():
    if of_type is float:
      given[name] = finite(f"{made.kind}: {name}", given[name])
  return made(**given)


def finite(what: str, value: object) -> float:
  """Returns a number read from JSON.

  Raises:
    InputError: When it is none, or no finite one.
  """
  # Comparing keeps whole numbers of any length from overflowing.
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not (is_number and -1e300 < value < 1e300):  # type: ignore[operator]
    raise InputError(f"{what} must be a finite number, got {value!r:.80}")
  return float(value)  # type: ignore[arg-type]


def extract_batch(extraction: Extraction, raw: Array) -> Array:
  """Makes features of raw examples, a few at a time.

  Args:
    extraction: What to do.
    raw: [n, *raw shape].

  Returns:
    [n, *output shape].

  Raises:
    InputError: As `Extraction.apply`.
  """
  if extraction == NO_EXTRACTION:
    return raw
  import tensorflow as tf  # noqa: PLC0415 - command lines read this

  # Fourier transforms refuse an empty batch; its features have a shape all the same.
  rows = raw if len(raw) else np.zeros((1, *raw.shape[1:]), raw.dtype)
  # On the processor, so that results do not depend on what else there is.
  with tf.device("CPU:0"):
    parts = [
      extraction.apply(tf.constant(rows[start : start + _ROWS_AT_ONCE])).numpy()
      for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
  features: Array = np.concatenate(parts)[: len(raw)]
  return features
