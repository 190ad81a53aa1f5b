"""Tells in one line each what is right or wrong with this machine.

Reads files only: no TensorFlow, no network, nothing started, done in well under a
second. The exit code is 0 when nothing needed is wrong and 2 otherwise.
"""

import dataclasses
import enum
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from pipelines.apps import app
from pipelines.apps.errors import ExitCode
from pipelines.settings.format_flag import FORMAT
from tflite_export.arm64 import arm64_setup

_SUMMARY = """
Tells in one line each what is right or wrong with this machine.

  python -m pipelines.doctor --format=json
"""

_GIB = 2**30
# A run of the digits preset and its worker process fit into this.
_NEEDED_MEMORY_BYTES = 2 * _GIB
_NEEDED_DISK_BYTES = 2 * _GIB

_OPTIONAL_TOOLS = {
  "g++": "compiles exported C++ sources, to check them",
  "arm-none-eabi-g++": "compiles exported C++ sources for Cortex-M, to measure them",
  "chromium": "shows HTML reports the way readers see them",
}


class Status(enum.Enum):
  """How much a finding matters."""

  OK = "ok"
  NOTE = "note"
  PROBLEM = "problem"


@dataclasses.dataclass(frozen=True)
class Finding:
  """One line of the answer.

  Attributes:
    name: What was looked at.
    status: PROBLEM only for something the product needs.
    message: What was found and, for a problem, how to mend it.
  """

  name: str
  status: Status
  message: str


def check_python(version: Sequence[int], system: str, machine: str) -> list[Finding]:
  """Compares the interpreter and platform with those of the lock files."""
  text = ".".join(str(part) for part in version[:3])
  right_version = tuple(version[:2]) == (3, 11)
  right_platform = (system, machine) == ("Linux", "x86_64")
  return [
    Finding("python", Status.OK, text)
    if right_version
    else Finding(
      "python",
      Status.PROBLEM,
      f"{text}, but the lock files are for 3.11:"
      " run `make setup PYTHON=/path/to/python3.11`",
    ),
    Finding("platform", Status.OK, f"{system} {machine}")
    if right_platform
    else Finding(
      "platform",
      Status.PROBLEM,
      f"{system} {machine}, but the lock files are for Linux x86_64:"
      " use such a machine or container",
    ),
  ]


def locked_versions(requirements: str) -> dict[str, str]:
  """Reads names and versions from the text of `requirements.txt`."""
  pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", requirements, re.MULTILINE)
  return dict(pins)


def installed_version(name: str) -> Optional[str]:
  """Returns the version of an installed package, or None."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def check_packages(
  locked: Mapping[str, str], installed: Callable[[str], Optional[str]]
) -> list[Finding]:
  """Compares installed versions with the lock; names only those that differ."""
  found = {name: installed(name) for name in locked}
  wrong = [
    f"{name} is {found[name]}, locked {version}"
    if found[name]
    else f"{name} {version} is missing"
    for name, version in locked.items()
    if found[name] != version
  ]
  if wrong:
    return [
      Finding("package", Status.PROBLEM, f"{text}: run `make setup`") for text in wrong
    ]
  return [Finding("packages", Status.OK, f"{len(locked)} as locked")]


def cpu_limit(cpu_max: str) -> Optional[float]:
  """Reads the number of cores from a control group's `cpu.max`; None is no limit."""
  quota, _, period = cpu_max.strip().partition(" ")
  return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def check_cores(usable: int, cpu_max: str) -> list[Finding]:
  """Counts the cores that this process may use."""
  limit = cpu_limit(cpu_max)
  limited = "" if limit is None else f", limited to the time of {limit:g}"
  return [Finding("cores", Status.OK, f"{usable}{limited}")]


def available_memory_bytes(meminfo: str, limit: str, used: str) -> Optional[int]:
  """Returns the memory left for new processes.

  Args:
    meminfo: Text of `/proc/meminfo`.
    limit: Text of the control group's `memory.max`, empty when there is none.
    used: Text of the control group's `memory.current`, likewise.

  Returns:
    Bytes, or None when unknown.
  """
  match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
  amounts = [int(match[1]) * 1024] if match else []
  if limit.strip().isdigit() and used.strip().isdigit():
    amounts.append(max(int(limit) - int(used), 0))
  return min(amounts, default=None)


def check_memory(available_bytes: Optional[int]) -> list[Finding]:
  """Compares the available memory with what a small run needs."""
  if available_bytes is None:
    return [Finding("memory", Status.NOTE, "unknown")]
  text = f"{available_bytes / _GIB:.1f} GiB available"
  if available_bytes < _NEEDED_MEMORY_BYTES:
    mend = f"a run needs {_NEEDED_MEMORY_BYTES // _GIB} GiB: end other programs"
    return [Finding("memory", Status.PROBLEM, f"{text}, {mend}")]
  return [Finding("memory", Status.OK, text)]


def check_disk(free_bytes: int) -> list[Finding]:
  """Compares the free disk space with what results and checkpoints need."""
  text = f"{free_bytes / _GIB:.1f} GiB free at the checkout"
  if free_bytes < _NEEDED_DISK_BYTES:
    mend = f"runs need {_NEEDED_DISK_BYTES // _GIB} GiB: delete old runs/"
    return [Finding("disk", Status.PROBLEM, f"{text}, {mend}")]
  return [Finding("disk", Status.OK, text)]


def check_bfloat16(cpuinfo: str) -> list[Finding]:
  """Looks for bfloat16 instructions, without which bfloat16 is no gain."""
  match = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
  cpu_flags = set(match[1].split()) if match else set()
  names = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
  present = [name for flag, name in names.items() if flag in cpu_flags]
  if present:
    return [Finding("bfloat16", Status.OK, f"the CPU has {' and '.join(present)}")]
  return [
    Finding("bfloat16", Status.NOTE, "not in this CPU: training in float32 is faster")
  ]


def check_tools(find: Callable[[str], Optional[str]]) -> list[Finding]:
  """Looks for the optional tools."""
  return [
    Finding(name, Status.OK, purpose)
    if find(name)
    else Finding(name, Status.NOTE, f"not installed; optional, {purpose}")
    for name, purpose in _OPTIONAL_TOOLS.items()
  ]


def check_arm64(problem: str) -> list[Finding]:
  """Tells whether exported files can be run under emulated ARM64.

  Args:
    problem: What is missing, empty when nothing is.
  """
  if problem:
    return [Finding("arm64", Status.NOTE, f"optional, for --verify_arm64: {problem}")]
  return [Finding("arm64", Status.OK, "--verify_arm64 can run exported files")]


def worker_path() -> Optional[pathlib.Path]:
  """Returns where TFF's worker belongs, or None when TFF is not installed."""
  try:
    package = importlib.metadata.distribution("tensorflow-federated")
  except importlib.metadata.PackageNotFoundError:
    return None
  return pathlib.Path(
    str(package.locate_file("tensorflow_federated/data/worker_binary"))
  )


def check_worker(path: Optional[pathlib.Path]) -> list[Finding]:
  """Looks for the process that TensorFlow Federated starts for every run."""
  if path is None:
    problem = "TensorFlow Federated is not installed"
  elif not path.is_file():
    problem = f"{path} is missing"
  elif not os.access(path, os.X_OK):
    return [
      Finding(
        "tff worker",
        Status.PROBLEM,
        f"{path} is not executable: run `chmod +x` on it;"
        " if that changes nothing, the disk is mounted noexec",
      )
    ]
  else:
    return [Finding("tff worker", Status.OK, "present and executable")]
  mend = "remove .venv/ and run `make setup`"
  return [Finding("tff worker", Status.PROBLEM, f"{problem}: {mend}")]


def check_all(root: pathlib.Path) -> list[Finding]:
  """Runs every check on this machine.

  Args:
    root: The checkout.

  Returns:
    Findings in the order they are shown.
  """
  lock = root / "requirements.txt"
  group = pathlib.Path("/sys/fs/cgroup")
  memory_bytes = available_memory_bytes(
    _text(pathlib.Path("/proc/meminfo")),
    _text(group / "memory.max"),
    _text(group / "memory.current"),
  )
  return [
    *check_python(sys.version_info[:3], platform.system(), platform.machine()),
    *(
      check_packages(locked_versions(_text(lock)), installed_version)
      if lock.is_file()
      else [Finding("packages", Status.NOTE, f"not compared, there is no {lock}")]
    ),
    *check_worker(worker_path()),
    *check_cores(_usable_cores(), _text(group / "cpu.max")),
    *check_memory(memory_bytes),
    *check_disk(shutil.disk_usage(root).free),
    *check_bfloat16(_text(pathlib.Path("/proc/cpuinfo"))),
    *check_tools(shutil.which),
    *check_arm64(arm64_setup.problem()),
  ]


def render(findings: Sequence[Finding], output_format: str) -> str:
  """Writes findings as aligned lines ("text") or one object ("json")."""
  if output_format == "json":
    rows = [
      {"name": item.name, "status": item.status.value, "message": item.message}
      for item in findings
    ]
    return json.dumps({"ok": not has_problem(findings), "findings": rows}, indent=2)
  width = max(len(item.name) for item in findings)
  return "\n".join(
    f"{item.status.value:<8} {item.name:<{width}}  {item.message}" for item in findings
  )


def has_problem(findings: Sequence[Finding]) -> bool:
  """Tells whether something needed is wrong."""
  return any(item.status is Status.PROBLEM for item in findings)


def main() -> Optional[int]:
  """Prints the findings and returns the exit code."""
  findings = check_all(pathlib.Path(__file__).resolve().parents[1])
  print(render(findings, FORMAT.value))
  return ExitCode.BAD_INPUT if has_problem(findings) else None


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text(encoding="utf-8", errors="replace")
  except OSError:
    return ""


def _usable_cores() -> int:
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, {"Output": ["format"]}))
