"""How a device waits: for news, and for a server that is away."""

import time

from fedtiny_tff import seeds
from pipelines.apps import redaction
from pipelines.apps.plain_progress import PlainProgress
from pipelines.devices.device_exchange import Final

_LONGEST_PAUSE_SECONDS = 60.0
# Until somebody is told, once, that there is nothing to do.
_FIRST_WORD_SECONDS = 5.0
_BACK_OFF = 2.0


class Patience:
  """Sleeps between looks, longer and longer where something is wrong, not for ever."""

  def __init__(
    self,
    poll_seconds: float,
    timeout_seconds: float,
    client: int,
    progress: PlainProgress,
  ):
    """Begins to wait for news.

    Args:
      poll_seconds: From look to look, when all is well.
      timeout_seconds: How long there may be nothing new.
      client: Devices that failed together do not try again together.
      progress: Where it is told.
    """
    self._poll_seconds = poll_seconds
    self._timeout_seconds = timeout_seconds
    self._jitter = seeds.generator(client, "device_patience")
    self._progress = progress
    self._problem = ""
    self._pause = poll_seconds
    self._since = time.monotonic()
    self._is_told = False

  def news(self) -> None:
    """Begins to wait anew: something new came or went, or was computed until now."""
    self._recover()
    self._since = time.monotonic()

  def rest(self) -> None:
    """Sleeps until the next look, after one at which all was well."""
    self._recover()
    if not self._is_told and time.monotonic() - self._since > _FIRST_WORD_SECONDS:
      self._is_told = True
      self._progress.say("nothing to do yet")
    self._sleep(self._pause)

  def back_off(self, problem: str = "") -> None:
    """Sleeps after a look at which something was wrong, longer each time.

    Args:
      problem: Why the exchange was not reached; empty where it was.
    """
    # A gateway's words are anybody's.
    problem = redaction.line(problem)
    if problem and not self._problem:
      self._progress.warn(f"the exchange is not reached ({problem}); trying again")
    self._problem = problem
    self._sleep(self._pause * self._jitter.uniform(0.5, 1.0))
    self._pause = max(
      self._poll_seconds, min(_BACK_OFF * self._pause, _LONGEST_PAUSE_SECONDS)
    )

  def _recover(self) -> None:
    if self._problem:
      self._progress.say("the exchange is reached again")
    self._problem, self._pause = "", self._poll_seconds

  def _sleep(self, seconds: float) -> None:
    """Sleeps, but for no longer than there is patience.

    Raises:
      Final: When it is at its end.
    """
    left = self._since + self._timeout_seconds - time.monotonic()
    if left <= 0:
      what = (
        f"was not reached ({self._problem})" if self._problem else "has nothing new"
      )
      raise Final(
        f"--exchange: {what} for {self._timeout_seconds:g} s; start the server, or wait "
        "longer with --timeout_seconds"
      )
    time.sleep(min(seconds, left))
