"""What a `.tflite` file's metadata say that the file itself does not."""

import dataclasses
import math
from typing import Optional

from fedtiny_tff.errors import InputError


@dataclasses.dataclass(frozen=True)
class ModelDescription:
  """A model, as its users know it.

  Attributes:
    name: Of the model.
    description: One or two sentences.
    version: Of the model.
    author: Who made it.
    licence: Its name, such as "Apache-2.0".
    product: What wrote the file, with its version.
    task: What the outputs are for, such as "classify".
    method: How the model was pruned, such as "fedtiny".
    format: How numbers are stored, such as "fp32_sparse".
    density: Share of the prunable weights that is not zero.
    input_description: What is fed in.
    output_description: What comes out.
    image_input: Whether the input is an image [height, width, channels], for tools
      that feed a camera's picture.
    mean: Of stored values, one or one per channel: fed is (value - mean) / deviation.
    deviation: Likewise; positive.
    value_range: Least and largest stored value, None if unknown.
    class_names: One per output, in order; empty without classes. Android's reader
      for Java skips blank names, so that later ones move up: give each a name.
  """

  name: str
  description: str
  version: str
  author: str
  licence: str
  product: str
  task: str
  method: str
  format: str
  density: float
  input_description: str
  output_description: str
  image_input: bool
  mean: tuple[float, ...]
  deviation: tuple[float, ...]
  value_range: Optional[tuple[float, float]]
  class_names: tuple[str, ...]

  def __post_init__(self) -> None:
    """Raises `InputError` for values that cannot be meant."""
    if not 0 <= self.density <= 1:
      raise InputError(f"density must be in [0, 1], got {self.density}")
    for what, values in (("mean", self.mean), ("deviation", self.deviation)):
      if not values or not all(math.isfinite(value) for value in values):
        raise InputError(f"{what} must hold one finite number or more, got {values}")
    if min(self.deviation) <= 0:
      raise InputError(f"deviation must be positive, got {self.deviation}")
    if self.value_range is not None and not (
      -math.inf < self.value_range[0] < self.value_range[1] < math.inf
    ):
      raise InputError(f"value_range must ascend, got {self.value_range}")
    for number, name in enumerate(self.class_names):
      if "\n" in name or "\r" in name:
        raise InputError(f"class name {number} holds a line break: {name!r}; remove it")
