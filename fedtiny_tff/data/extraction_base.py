"""What an extraction is; that of nothing; and that of resized images."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from fedtiny_tff.errors import InputError

if TYPE_CHECKING:  # TensorFlow takes seconds to import and command lines read this.
  import tensorflow as tf

_LARGEST_SIDE = 1 << 14
_COLOURS = 3


def check_whole(kind: str, name: str, value: object, least: int, most: int) -> None:
  """Checks a whole number, which may come from anywhere.

  Raises:
    InputError: When it is none, or out of range.
  """
  is_whole = isinstance(value, int) and not isinstance(value, bool)
  if not (is_whole and least <= value <= most):  # type: ignore[operator]
    raise InputError(
      f"{kind}: {name} must be a whole number from {least:,} to {most:,}, got {value!r:.80}"
    )


@dataclasses.dataclass(frozen=True)
class Extraction:
  """Nothing is done: raw examples are stored as they are. Base of all others.

  Attributes:
    kind: Key of `extraction.EXTRACTIONS`.
  """

  kind: ClassVar[str] = "none"

  @property
  def raw_shape(self) -> Optional[tuple[int, ...]]:
    """Shape of a raw example; None where it is left open."""
    return None

  @property
  def of_signal(self) -> bool:
    """Whether it takes a signal over time, and not features or images."""
    return False

  def output_shape(self, raw_shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of what is made of a raw example.

    Raises:
      InputError: When raw examples of that shape cannot be used.
    """
    return tuple(raw_shape)

  def apply(self, raw: "tf.Tensor") -> "tf.Tensor":
    """Makes features of raw examples [n, *raw shape].

    Raises:
      InputError: When their shape or type is not what is declared.
    """
    return raw

  def in_words(self) -> str:
    """Says what is done, so that it can be done elsewhere; empty for nothing."""
    return ""

  def to_json(self) -> dict[str, Any]:
    """Returns kind and parameters."""
    return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Resize(Extraction):
  """Images of any size are resized, after they were made grey if that is asked for.

  Attributes:
    height: Of what is made.
    width: Likewise.
    grey: Whether raw images are in colour, and what is made of them is grey.
  """

  kind: ClassVar[str] = "resize"

  height: int
  width: int
  grey: bool = False

  def __post_init__(self) -> None:
    """Refuses sides that no image has with an InputError."""
    for name in ("height", "width"):
      check_whole(self.kind, name, getattr(self, name), 1, _LARGEST_SIDE)
    if not isinstance(self.grey, bool):
      raise InputError(f"resize: grey must be true or false, got {self.grey!r:.80}")

  def output_shape(self, raw_shape: Sequence[int]) -> tuple[int, ...]:
    """Returns [height, width, channels]; see the base."""
    if len(raw_shape) != 3 or min(raw_shape) < 1:
      raise InputError(
        f"resize takes images [height, width, channels], got shape {list(raw_shape)}"
      )
    if self.grey and raw_shape[2] != _COLOURS:
      raise InputError(
        f"resize makes colours grey, got images of {raw_shape[2]} channels, not 3; leave grey out"
      )
    return (self.height, self.width, 1 if self.grey else raw_shape[2])

  def apply(self, raw: "tf.Tensor") -> "tf.Tensor":
    """Makes uint8 [n, height, width, channels] of uint8 images; see the base."""
    from fedtiny_tff.data import feature_ops  # noqa: PLC0415 - imports TensorFlow

    self.output_shape(raw.shape[1:])
    if raw.dtype != "uint8":
      raise InputError(f"resize takes uint8 images, got {raw.dtype.name}; store bytes")
    if self.grey:
      raw = feature_ops.greyed(raw)
    return feature_ops.resized(raw, self.height, self.width)

  def in_words(self) -> str:
    """See the base."""
    grey = ""
    if self.grey:
      grey = "made grey ((299 red + 587 green + 114 blue + 500) / 1000, rounded down), "
    return (
      f"{grey}resized to {self.height}×{self.width} pixels (tf.image.resize, bilinear "
      "with antialias, rounded to whole numbers, halves to even ones)"
    )
