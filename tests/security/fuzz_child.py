"""Tries damaged files one after another; the process's end tells what became of it.

  python -m tests.security.fuzz_child KIND FOLDER FIRST LAST

KIND is `tflite`, with whole files in FOLDER/seeds, or `records`. A file that takes five
seconds of processor time ends it with SIGPROF, one that crashes native code with its
signal; `FOLDER/at` names the file it was at. Prints how much came of it and the peak
memory in MB.
"""

import os
import pathlib
import resource
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_SECONDS = 5
# Far above what is allowed, so that a file that wants all does not take it.
_MOST_BYTES = 16 << 30


def _numbers(folder: pathlib.Path, first: int, last: int):
  """Yields numbers; each may take so much time."""
  # By default it ends the process, also within native code.
  signal.signal(signal.SIGPROF, signal.SIG_DFL)
  for number in range(first, last):
    (folder / "at").write_text(str(number))
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    yield number
  signal.setitimer(signal.ITIMER_PROF, 0)


def _tflite(folder: pathlib.Path, first: int, last: int) -> list[int]:
  from absl import flags

  from tests.security import tflite_fuzz

  flags.FLAGS(["fuzz"])
  files = [path.read_bytes() for path in sorted((folder / "seeds").iterdir())]
  numbers = _numbers(folder, first, last)
  return [tflite_fuzz.numbers_taken(files, numbers, folder)]


def _records(folder: pathlib.Path, first: int, last: int) -> list[int]:
  from tests.security import record_fuzz

  every = record_fuzz.kinds()
  # TensorFlow traces its functions at the first file.
  record_fuzz.try_numbers(every, range(len(every)), folder)
  return list(record_fuzz.try_numbers(every, _numbers(folder, first, last), folder))


def main(kind: str, folder: str, first: str, last: str) -> None:
  resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  work = {"tflite": _tflite, "records": _records}[kind]
  found = work(pathlib.Path(folder), int(first), int(last))
  print(*found, _peak_megabytes())


def _peak_megabytes() -> int:
  # What `getrusage` tells begins with the memory of the process that started this one.
  status = pathlib.Path("/proc/self/status").read_text()
  (peak,) = [
    line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")
  ]
  return int(peak) >> 10


if __name__ == "__main__":
  main(*sys.argv[1:])
