import math

import pytest

from fedtiny_tff.errors import InputError
from tests.tflite_export.descriptions import description


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"density": 1.5}, r"density must be in \[0, 1\], got 1.5"),
    ({"density": math.nan}, "density"),
    ({"mean": ()}, "mean must hold one finite number or more"),
    ({"mean": (math.inf,)}, "mean"),
    ({"deviation": (1.0, 0.0)}, "deviation must be positive"),
    ({"deviation": (math.nan,)}, "deviation must hold"),
    ({"value_range": (1.0, 1.0)}, "value_range must ascend"),
    ({"value_range": (0.0, math.inf)}, "value_range"),
    ({"class_names": ("a", "b\nc")}, "class name 1 holds a line break"),
    ({"class_names": ("a\r",)}, "class name 0 holds a line break"),
  ],
)
def test_what_cannot_be_meant_is_refused(changes, said):
  with pytest.raises(InputError, match=said):
    description(**changes)


@pytest.mark.parametrize(
  "changes",
  [{"density": 0.0}, {"density": 1.0}, {"value_range": None}, {"class_names": ()}],
)
def test_borders_are_allowed(changes):
  description(**changes)
