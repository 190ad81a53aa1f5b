"""All trackers of a phase together; none of them can end the run."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Optional

from pipelines.apps import interruption
from pipelines.apps.progress import Progress
from pipelines.apps.redaction import redacted
from pipelines.tracking import base, registry

_MOST_CHARACTERS = 300


@dataclasses.dataclass
class _Place:
  """One tracker, and how it is doing.

  Attributes:
    name: Of the tracker.
    tracker: None before the first attempt, and while it is out of reach.
    is_begun: Whether it is ready to be told of rounds.
    told: Rounds it was told since it began.
    pause: Calls between attempts while it is out of reach; doubles every time.
    wait: Calls until the next attempt.
  """

  name: str
  tracker: Optional[base.Tracker] = None
  is_begun: bool = False
  told: int = 0
  pause: int = 0
  wait: int = 0


class Trackers:
  """Tells all trackers; one that fails is left alone for a while, then told all.

  What fails is said once, and once more when it works again.
  """

  def __init__(
    self,
    names: Sequence[str],
    subject: base.Subject,
    progress: Progress,
    make: Callable[[str], base.Tracker] = registry.make,
  ):
    """Takes whom to tell of what; nothing happens yet.

    Args:
      names: Names of trackers.
      subject: What they are told of.
      progress: Where failures are said.
      make: Returns a new tracker of a name.
    """
    self._places = [_Place(name) for name in names]
    self._subject = subject
    self._progress = progress
    self._make = make

  def tell(self, rounds: Sequence[base.Round]) -> None:
    """Brings every tracker up to date with all rounds of the phase."""
    for place in self._places:
      if place.wait:
        place.wait -= 1
        continue
      self._bring_up(place, rounds)

  def finish(self, rounds: Sequence[base.Round], is_done: bool) -> None:
    """Ends; tells once more what a tracker may have missed.

    Args:
      rounds: All rounds of the phase.
      is_done: Whether the phase is at its end, not broken off.
    """
    for place in self._places:
      if is_done and place.told < len(rounds):
        self._bring_up(place, rounds)
      if place.tracker is not None:
        self._attempt(place, lambda t: t.finish(is_done))
        place.tracker = None

  def _bring_up(self, place: _Place, rounds: Sequence[base.Round]) -> None:
    def work(tracker: base.Tracker) -> None:
      if not place.is_begun:
        tracker.begin(self._subject)
        place.is_begun = True
      tracker.tell(rounds[place.told :])

    is_back = place.pause > 0
    if self._attempt(place, work):
      place.told = len(rounds)
      if is_back:
        place.pause = 0
        self._progress.say(f"--trackers={place.name}: works again, nothing is missing")

  def _attempt(self, place: _Place, work: Callable[[base.Tracker], None]) -> bool:
    """Does something with a tracker; lets go of it when that fails."""
    try:
      if place.tracker is None:
        place.tracker = self._make(place.name)
      work(place.tracker)
      return True
    except Exception as error:
      # A signal may come out of a library as any exception.
      interruption.check()
      if not place.pause:
        self._progress.warn(
          f"--trackers={place.name}: {_one_line(error)}; the run goes on, and tries "
          "again from time to time"
        )
      self._let_go(place)
      return False

  def _let_go(self, place: _Place) -> None:
    broken = place.tracker
    place.tracker, place.is_begun, place.told = None, False, 0
    place.pause = max(1, 2 * place.pause)
    place.wait = place.pause
    try:
      if broken is not None:
        broken.finish(False)
    except Exception:
      # It is out of reach, which was said.
      interruption.check()


def _one_line(error: Exception) -> str:
  text = " ".join(f"{type(error).__name__}: {error}".split())
  return redacted(text)[:_MOST_CHARACTERS]
