"""Rows of a table to examples: single rows, or windows of rows that belong together."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from fedtiny_tff.arrays import Array

_BATCH_BYTES = 32 * 2**20
_MAX_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class Windows:
  """Examples of a table; each is some rows on end.

  Attributes:
    starts: int64 [n], each one's first row; ascending.
    rows: Rows of each.
  """

  starts: Array
  rows: int

  def __len__(self) -> int:
    """Returns the number of windows."""
    return len(self.starts)

  def chosen(self, mask: Array) -> "Windows":
    """Returns some of them: bool [n]."""
    return Windows(self.starts[mask], self.rows)

  def touched(self, rows: Array) -> Array:
    """Tells which rows belong to a window: int64 [m] to bool [m]."""
    # All are equally long: if one holds the row, so does the last to begin by then.
    last = np.searchsorted(self.starts, rows, side="right") - 1
    if not len(self):
      return np.zeros(len(rows), bool)
    ends = self.starts[np.maximum(last, 0)] + self.rows
    inside: Array = (last >= 0) & (ends > rows)
    return inside


def cut(keys: Array, usable: Array, rows: int, stride: int) -> Windows:
  """Cuts a table into windows.

  A run is made of consecutive usable rows with equal keys. Windows begin at its first
  row, `stride` rows later and so on, as long as they fit: the rows left at its end are
  in none.

  Args:
    keys: int [table's rows, parts]; what a window's rows have in common.
    usable: bool [table's rows].
    rows: Rows of a window, 1 or more.
    stride: Rows from one window's start to the next one's, 1 or more.
  """
  changes = (keys[1:] != keys[:-1]).any(axis=1) | (usable[1:] != usable[:-1])
  run_starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
  lengths = np.diff(np.append(run_starts, len(keys)))
  counts = np.maximum((lengths - rows) // stride + 1, 0) * usable[run_starts]
  firsts = np.repeat(run_starts, counts)
  number_in_run = np.arange(counts.sum()) - np.repeat(
    np.cumsum(counts) - counts, counts
  )
  return Windows(firsts + number_in_run * stride, rows)


class Cut(NamedTuple):
  """Windows with what they hold.

  Attributes:
    numbers: int64 [n], which of the windows these are.
    features: float32 [n, rows, columns].
  """

  numbers: Array
  features: Array


def gather(
  windows: Windows, parts: Iterable[tuple[Array, Array]], columns: int
) -> Iterator[Cut]:
  """Streams the windows' rows; windows that touch a bad row are left out.

  Args:
    windows: What to gather.
    parts: The table from its first row on: features, float32 [n, columns], and which
      rows are good, bool [n].
    columns: Numbers in a row.

  Yields:
    Windows in order; no more rows are held than one part and a window.
  """
  most = min(max(_BATCH_BYTES // (4 * windows.rows * columns), 1), _MAX_BATCH)
  held = np.zeros([0, columns], np.float32)
  held_good = np.zeros(0, bool)
  first_held, done = 0, 0
  for features, good in parts:
    held = np.concatenate([held, features])
    held_good = np.concatenate([held_good, good])
    end = first_held + len(held)
    ready = int(np.searchsorted(windows.starts, end - windows.rows, side="right"))
    for begin in range(done, ready, most):
      numbers = np.arange(begin, min(begin + most, ready))
      places = (windows.starts[numbers] - first_held)[:, np.newaxis]
      places = places + np.arange(windows.rows)
      whole = held_good[places].all(axis=1)
      yield Cut(numbers[whole], held[places[whole]])
    done = max(done, ready)
    needed = int(windows.starts[done]) if done < len(windows) else end
    drop = min(needed, end) - first_held
    held, held_good = held[drop:].copy(), held_good[drop:].copy()
    first_held += drop
