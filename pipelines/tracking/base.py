"""What trackers are told, and what they must be able to do."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Protocol


def without_blanks(row: Mapping[str, Any]) -> dict[str, Any]:
  """Turns what a CSV leaves empty into None."""
  return {name: None if value == "" else value for name, value in row.items()}


def _no_picture() -> Optional[bytes]:
  return None


@dataclasses.dataclass(frozen=True)
class Subject:
  """One phase of a run, as trackers know it.

  Attributes:
    folder: The run directory.
    phase: "sparse" or "dense".
    configuration: Every flag that decides the result, without secrets.
    candidates: Rows of `selection.csv`; empty where nothing was selected.
    partition: Draws who has how many examples of which class, as PNG; None where
      there are no classes.
  """

  folder: pathlib.Path
  phase: str
  configuration: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  candidates: Sequence[Mapping[str, Any]] = ()
  partition: Callable[[], Optional[bytes]] = _no_picture

  @property
  def suffix(self) -> str:
    """What the phase's file names end with: nothing for the pruning run."""
    return "" if self.phase == "sparse" else f"_{self.phase}"


@dataclasses.dataclass(frozen=True)
class Round:
  """A finished round.

  Attributes:
    row: Its line of `metrics.csv`, by column; "" where there is no figure.
    change: What an adjustment of the mask moved: "block", and "layers" with "name",
      "dropped" and "grown"; None in other rounds.
    densities: Density of every layer after the round, by name.
  """

  row: Mapping[str, Any]
  change: Optional[Mapping[str, Any]]
  densities: Mapping[str, float]

  @property
  def number(self) -> int:
    """The round, from 0."""
    return self.row["round"]

  @property
  def scalars(self) -> dict[str, float]:
    """The figures there are, by column, without the round's number."""
    return {
      name: value for name, value in self.row.items() if name != "round" and value != ""
    }

  @property
  def moved(self) -> dict[str, int]:
    """What an adjustment moved, as "dropped/LAYER" and "grown/LAYER"; else empty."""
    layers = self.change["layers"] if self.change else ()
    return {
      f"{what}/{layer['name']}": layer[what]
      for what in ("dropped", "grown")
      for layer in layers
    }


class Tracker(Protocol):
  """A place where rounds are told; any method may raise anything when out of reach.

  One object is used from one `begin` to one `finish`.
  """

  def begin(self, subject: Subject) -> None:
    """Makes ready, and tells what does not depend on rounds.

    Where an earlier process told of the same phase, its entry is taken up again.
    """

  def tell(self, rounds: Sequence[Round]) -> None:
    """Tells of finished rounds.

    The first call brings all of them, from round 0; later ones what came since.
    What an earlier process told is to be replaced or left out, never doubled.
    """

  def finish(self, is_done: bool) -> None:
    """Lets go of the place; `is_done` says whether the phase is at its end."""
