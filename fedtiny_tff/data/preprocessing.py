"""From a raw example to what the model is fed with: declared once, for everywhere."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.data import extraction as extraction_lib
from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.extraction_base import Extraction
from fedtiny_tff.errors import InputError

if TYPE_CHECKING:  # TensorFlow takes seconds to import and command lines read this.
  import tensorflow as tf

# Longer lists of numbers are not told in words.
_MOST_CHANNELS_IN_WORDS = 4


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """What is done to a raw example, and then to the features it was stored as.

  Raw examples become features by `extraction`; these, (features * scale - mean) /
  deviation.

  Attributes:
    scale: Factor that brings stored features near [0, 1]; positive.
    mean: Per channel (last axis) or a single value, after scaling.
    deviation: As many; positive.
    extraction: What was done before features were stored.
  """

  scale: float
  mean: tuple[float, ...]
  deviation: tuple[float, ...]
  extraction: Extraction = NO_EXTRACTION

  def __post_init__(self) -> None:
    """Raises `InputError` for numbers that cannot be meant, in float32."""
    with np.errstate(over="ignore"):
      scale, mean, deviation = (
        np.asarray(values, np.float32)
        for values in (self.scale, self.mean, self.deviation)
      )
    if not (np.isfinite(scale) and scale > 0):
      raise InputError(f"preprocessing: scale must be positive, got {self.scale}")
    if not len(mean) or len(mean) != len(deviation):
      raise InputError(
        f"preprocessing: mean and deviation must have one number or one per channel, "
        f"got {len(mean)} and {len(deviation)}"
      )
    if not np.isfinite(mean).all():
      raise InputError("preprocessing: mean must hold finite numbers")
    if not (np.isfinite(deviation) & (deviation > 0)).all():
      raise InputError("preprocessing: deviation must hold positive, finite numbers")

  def apply(self, features: Array) -> Array:
    """Normalises stored features [..., channels] with NumPy; returns float32."""
    scaled = features.astype(np.float32) * np.float32(self.scale)
    mean = np.asarray(self.mean, np.float32)
    return (scaled - mean) / np.asarray(self.deviation, np.float32)

  def in_words(self) -> str:
    """Says in one line what a raw example goes through."""
    told = self.extraction.in_words()
    value = "value" if told else "raw"
    numbers = ", ".join(
      f"{name} {', '.join(f'{each:g}' for each in values)}"
      for name, values in (("mean", self.mean), ("deviation", self.deviation))
    )
    if len(self.mean) > _MOST_CHANNELS_IN_WORDS:
      numbers = f"mean and deviation of each of {len(self.mean)} channels"
    normalised = f"({value} * {self.scale:g} - mean) / deviation, {numbers}"
    return f"{told}; then {normalised}" if told else normalised

  def to_json(self) -> dict[str, Any]:
    """Returns all of it; numbers come back as they are."""
    return {
      "extraction": self.extraction.to_json(),
      "scale": self.scale,
      "mean": list(self.mean),
      "deviation": list(self.deviation),
    }

  @staticmethod
  def from_json(document: object) -> "Preprocessing":
    """Reads what `to_json` returns, from anywhere.

    Raises:
      InputError: Naming what is missing, unknown or out of range.
    """
    names = {field.name for field in dataclasses.fields(Preprocessing)}
    if not isinstance(document, Mapping) or set(document) != names:
      raise InputError(
        f"preprocessing must be an object with {', '.join(sorted(names))}, got "
        f"{document!r:.80}"
      )
    extraction = extraction_lib.from_json(document["extraction"])
    scale = extraction_lib.finite("preprocessing: scale", document["scale"])
    mean, deviation = (_numbers(name, document[name]) for name in ("mean", "deviation"))
    return Preprocessing(scale, mean, deviation, extraction)


def _numbers(name: str, values: object) -> tuple[float, ...]:
  if not isinstance(values, list):
    raise InputError(
      f"preprocessing: {name} must be a list of numbers, got {values!r:.80}"
    )
  return tuple(
    extraction_lib.finite(f"preprocessing: a number of {name}", value)
    for value in values
  )


def apply_raw(preprocessing: Preprocessing, raw: "tf.Tensor") -> "tf.Tensor":
  """Makes model inputs of raw examples, with TensorFlow.

  Args:
    preprocessing: What to do.
    raw: [n, *raw shape].

  Returns:
    float32 [n, *input shape].

  Raises:
    InputError: When shape or type of the examples is not what is declared.
  """
  from fedtiny_tff.data import feature_ops  # noqa: PLC0415 - imports TensorFlow

  features = preprocessing.extraction.apply(raw)
  channels = features.shape[-1] if len(features.shape) > 1 else 1
  if len(preprocessing.mean) not in (1, channels):
    raise InputError(
      f"preprocessing is declared for {len(preprocessing.mean)} channels, got features "
      f"of shape {list(features.shape[1:])}; give examples as they were declared"
    )
  return feature_ops.normalised(
    features, preprocessing.scale, preprocessing.mean, preprocessing.deviation
  )
