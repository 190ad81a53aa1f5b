"""Class names as files and tools can hold them: one a line, none blank."""

from collections.abc import Sequence


def clean_labels(class_names: Sequence[str]) -> tuple[str, ...]:
  """Returns names without line breaks and repeated spaces.

  Readers of label files skip blank lines, so that later names would move up: a blank
  name becomes `class N`.

  Args:
    class_names: One per output, in order.
  """
  names = (" ".join(name.split()) for name in class_names)
  return tuple(name or f"class {number}" for number, name in enumerate(names))
