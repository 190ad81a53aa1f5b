"""A run's metrics by round: `metrics.csv`, and whatever trackers make of them."""

import contextlib
import csv
import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from pipelines.apps import files
from pipelines.tracking import base
from pipelines.tracking.trackers import Trackers

COLUMNS = (
  "round", "train_loss", "train_accuracy", "eval_loss", "eval_accuracy", "density",
  "clients", "reports", "excluded", "attempts", "seconds", "cpu_seconds", "rss_mb", "bytes_up_per_client", "bytes_down_per_client",
  "secure_extra_bytes", "epsilon", "adjusted_block",
)  # fmt: skip


class Layer(NamedTuple):
  """A layer before the first round.

  Attributes:
    name: Its name.
    active: Unpruned weights.
    size: Weights.
  """

  name: str
  active: int
  size: int


def to_csv(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
  """Renders rows as CSV with a header."""
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


def no_formula(name: str) -> str:
  """Returns a name that spreadsheets do not compute."""
  return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


class MetricsLog:
  """Keeps `metrics.csv` and the trackers equal to the rounds finished.

  The CSV is written anew each time, so that it is whole after a kill.
  """

  def __init__(self, csv_path: pathlib.Path, trackers: Optional[Trackers] = None):
    """Takes whom to tell.

    Args:
      csv_path: The CSV file.
      trackers: Whatever else is to be told.
    """
    self._csv_path = csv_path
    self._trackers = trackers
    self._layers: Sequence[Layer] = ()
    self._active: dict[str, int] = {}
    self._rounds: list[base.Round] = []

  @contextlib.contextmanager
  def following(self, layers: Sequence[Layer]) -> Iterator[None]:
    """Follows a phase to its end, or until it is broken off.

    Args:
      layers: The layers before the first round.
    """
    self._layers = layers
    self._active = {layer.name: layer.active for layer in layers}
    try:
      yield
    except BaseException:
      if self._trackers is not None:
        self._trackers.finish(self._rounds, False)
      raise
    if self._trackers is not None:
      self._trackers.finish(self._rounds, True)

  def write(
    self, rows: list[dict[str, Any]], events: Sequence[Mapping[str, Any]]
  ) -> None:
    """Brings everything up to date with all rows of the phase, and its adjustments."""
    files.write_text(self._csv_path, to_csv(COLUMNS, rows))
    changes = {event["round"]: event for event in events}
    for row in rows[len(self._rounds) :]:
      self._rounds.append(self._told(row, changes.get(row["round"])))
    if self._trackers is not None:
      self._trackers.tell(self._rounds)

  def _told(
    self, row: Mapping[str, Any], change: Optional[Mapping[str, Any]]
  ) -> base.Round:
    for moved in change["layers"] if change else ():
      self._active[moved["name"]] += moved["grown"] - moved["dropped"]
    densities = {
      each.name: self._active[each.name] / each.size for each in self._layers
    }
    return base.Round(row, change, densities)
