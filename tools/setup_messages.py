"""What set-up tells: how it goes on, and why it cannot."""

from __future__ import annotations


class SetupError(Exception):
  """Set-up cannot go on; the message is what the user is told.

  Attributes:
    exit_code: 2 when this machine or the call must change first, 1 when the
      installation itself failed.
  """

  def __init__(self, message: str, exit_code: int = 2) -> None:
    """Keeps the message and the exit code."""
    super().__init__(message)
    self.exit_code = exit_code


def say(message: str) -> None:
  """Prints a line of progress."""
  print(f"setup: {message}", flush=True)
