"""Catches what C++ code prints, past every log level and Python's own streams."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
  """Collects what is printed to file descriptor 2, also by C++ code.

  Yields:
    A function that returns the text so far.
  """
  sys.stderr.flush()
  saved = os.dup(2)
  with tempfile.TemporaryFile() as sink:

    def printed() -> str:
      sink.seek(0)
      return sink.read().decode("utf-8", errors="replace")

    try:
      os.dup2(sink.fileno(), 2)
      yield printed
    finally:
      sys.stderr.flush()
      os.dup2(saved, 2)
      os.close(saved)
