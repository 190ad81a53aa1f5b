"""Exit codes, and how an app ends."""

import enum
import errno

# Numbers of a full disk; the last is a process's own limit of a file's size.
STORAGE_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ExitCode(enum.IntEnum):
  """What every app of the product ends with."""

  DONE = 0
  BAD_INPUT = 2
  VERIFICATION_FAILED = 3
  BUDGET_NOT_MET = 4
  STORAGE_FULL = 5
  INTERRUPTED = 130
  OUTPUT_CLOSED = 141
  TERMINATED = 143


class Terminated(KeyboardInterrupt):
  """SIGTERM arrived; unwinds like Ctrl-C does, which event loops let pass."""


# As help tells them.
EXIT_CODES = """Exit codes: 0 done, 2 bad input, 3 verification failed, 4 budget not met,
  5 no space left, 130 interrupted, 141 output closed, 143 terminated."""
