"""In which order a raw example's numbers stand, for those who fill it from a sensor."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Optional


@dataclasses.dataclass(frozen=True)
class RawLayout:
  """Rows of a table, one after the other.

  Attributes:
    rows: Of one example, in the table's order: of recordings, the oldest first.
    columns: Names of the numbers of a row, in order.
  """

  rows: int
  columns: tuple[str, ...]

  def in_words(self, names: Optional[Sequence[str]] = None) -> str:
    """Says where each number stands.

    Args:
      names: The columns' names as the reader may see them; None for as they are.
    """
    listed = ", ".join(f"{at} {name}" for at, name in enumerate(names or self.columns))
    count = len(self.columns)
    if self.rows == 1:
      return f"one row of a table, a value a column: {listed}"
    return (
      f"{self.rows} rows of a table, the oldest first; value {count} * row + column, "
      f"columns {listed}"
    )

  def quoted_columns(self) -> list[str]:
    """Returns the names in ASCII, quoted, so that no C comment ends or goes on in one."""
    quoted = map(json.dumps, self.columns)
    # Of what begins a trigraph, and what joins lines.
    return [name.replace("\\\\", "\\u005c").replace("?", "\\u003f") for name in quoted]

  def to_json(self) -> dict[str, object]:
    """Returns members for a description of raw examples."""
    return {
      "rows": self.rows,
      "columns": list(self.columns),
      "order": f"{len(self.columns)} * row + column, the oldest row first",
    }


def of(columns: Sequence[str], shape: Sequence[Optional[int]]) -> Optional[RawLayout]:
  """Returns the layout of raw examples.

  Args:
    columns: Of the table they come from; empty where they come from none.
    shape: Of a raw example; None for sizes that are left open.

  Returns:
    None where it is not known.
  """
  sizes = [size for size in shape if size is not None]
  values = math.prod(sizes)
  if not columns or len(sizes) < len(shape) or not values or values % len(columns):
    return None
  return RawLayout(values // len(columns), tuple(columns))
