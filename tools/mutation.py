"""Changes masks, packing and strategies bit by bit: which changes does no test see?

mutmut (https://mutmut.readthedocs.io) makes the changes and runs each module's own
tests, and no others, once per change. TensorFlow is imported once; every change is
tried in a fork of that process. All is done on copies in `build/mutation/`.
`mutation_plugin` lets changes run in graphs, too.

Exit code: 0 when enough changes were noticed, 1 when not, 2 when mutmut did not run.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

FOLDER = pathlib.PurePath("build") / "mutation"
LEAST_PERCENT = 85
_LIBRARY = "fedtiny_tff"
_CORE = (
  *("sparsity/masks", "sparsity/packing", "sparsity/positions"),
  "devices/device_positions",
)
# Test failures, and errors outside of a test. A change that only makes tests slow
# does not count as noticed: on a busy machine any does.
_NOTICED = (1, 3)
_PLUGIN = "mutation_plugin"
# Away from the unchanged library, which would be imported from there.
_PLUGINS = "plugins"
_IMPORTED_ONCE = ("hypothesis", "numpy", "tensorflow", "tensorflow_model_optimization")


class Module(NamedTuple):
  """What is changed, and by what it is tried.

  Attributes:
    name: Path within the library, without its ending.
    source: Path within the checkout.
    tests: Likewise, one file or more.
  """

  name: str
  source: str
  tests: tuple[str, ...]


class Outcome(NamedTuple):
  """What came of the changes of a module.

  Attributes:
    name: Of the module.
    changes: How many were tried.
    unseen: mutmut's names of those that no test noticed.
  """

  name: str
  changes: int
  unseen: tuple[str, ...]

  def __str__(self) -> str:
    """Returns a line for people."""
    noticed = self.changes - len(self.unseen)
    percent = 100 * noticed // self.changes if self.changes else 100
    return f"{self.name}: {noticed} of {self.changes} changes noticed, {percent} %"


def modules(root: pathlib.Path) -> list[Module]:
  """Lists the modules of a checkout that are changed."""
  strategies = sorted((root / _LIBRARY / "strategies").glob("[a-z]*.py"))
  names = [*_CORE, *(f"strategies/{path.stem}" for path in strategies)]
  return [Module(name, f"{_LIBRARY}/{name}.py", _tests(root, name)) for name in names]


def _tests(root: pathlib.Path, name: str) -> tuple[str, ...]:
  """Returns a module's own tests: `NAME_test.py`, and `NAME_WHAT_test.py`."""
  place = root / "tests" / _LIBRARY / name
  found = [f"{place}_test.py", *map(str, place.parent.glob(f"{place.name}_*_test.py"))]
  return tuple(
    pathlib.Path(each).relative_to(root).as_posix() for each in sorted(found)
  )


def settings(module: Module) -> str:
  """Returns mutmut's part of a `pyproject.toml`."""
  values = {
    "source_paths": [_LIBRARY],
    "only_mutate": [module.source],
    "pytest_add_cli_args": [
      *("-p", _PLUGIN, "-p", "no:cacheprovider", "-m", "not slow and not arm64")
    ],
    "pytest_add_cli_args_test_selection": module.tests,
    # A fork of a process that has run TensorFlow hangs in its first graph.
    "process_isolation": "forkserver",
    "forkserver_warmup": "import",
    "preload_modules_file": "imported_once.txt",
    "timeout_constant": 6,
    "track_dependencies": False,
    "use_git_change_detection": False,
  }
  lines = (f"{name} = {json.dumps(value)}" for name, value in values.items())
  return "\n".join(["[tool.mutmut]", *lines, ""])


def outcome(module: Module, record: Mapping[str, Optional[int]]) -> Outcome:
  """Reads how the tests of each change ended; None: they did not run."""
  unseen = sorted(name for name, code in record.items() if code not in _NOTICED)
  return Outcome(module.name, len(record), tuple(unseen))


def total(outcomes: Iterable[Outcome]) -> Outcome:
  """Adds up the modules."""
  found = list(outcomes)
  unseen = tuple(name for each in found for name in each.unseen)
  return Outcome("all", sum(each.changes for each in found), unseen)


def is_enough(found: Outcome) -> bool:
  """Whether the share of changes that were noticed is what it should be."""
  noticed = found.changes - len(found.unseen)
  return noticed * 100 >= found.changes * LEAST_PERCENT


def _prepare(root: pathlib.Path, module: Module) -> pathlib.Path:
  """Copies what the tests of a module need and returns where to."""
  folder = root / FOLDER / module.name
  shutil.rmtree(folder, ignore_errors=True)
  for part in (_LIBRARY, f"tests/{_LIBRARY}"):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / part, folder / part, ignore=ignored)
  project = (root / "pyproject.toml").read_text(encoding="utf-8")
  (folder / "pyproject.toml").write_text(f"{project}\n{settings(module)}")
  (folder / "imported_once.txt").write_text("\n".join(_IMPORTED_ONCE))
  (folder / _PLUGINS).mkdir()
  plugin = pathlib.Path(__file__).with_name(f"{_PLUGIN}.py")
  shutil.copy(plugin, folder / _PLUGINS)
  return folder


def try_changes(root: pathlib.Path, module: Module) -> Outcome:
  """Runs mutmut on a module of a checkout.

  Raises:
    RuntimeError: It did not run; the message is one line.
  """
  folder = _prepare(root, module)
  command = [str(pathlib.Path(sys.executable).with_name("mutmut")), "run"]
  done = subprocess.run(
    [*command, "--max-children=1"],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(folder / _PLUGINS)},
    check=False,
  )
  results = folder / "mutants" / f"{module.source}.meta"
  if done.returncode or not results.is_file():
    raise RuntimeError(
      f"{module.name}: mutmut ended with {done.returncode}; make {', '.join(module.tests)} pass"
    )
  record = json.loads(results.read_text(encoding="utf-8"))
  return outcome(module, record["exit_code_by_key"])


def main(names: Sequence[str]) -> int:
  """Tries the modules that are named, or all, and returns the exit code."""
  root = pathlib.Path(__file__).resolve().parents[1]
  known = {module.name: module for module in modules(root)}
  unknown = sorted(set(names) - set(known))
  if unknown:
    print(f"mutation: no {unknown[0]}; take of {', '.join(known)}", file=sys.stderr)
    return 2
  outcomes = []
  for name in names or known:
    try:
      outcomes.append(try_changes(root, known[name]))
    except (RuntimeError, OSError) as error:
      print(f"mutation: {error}", file=sys.stderr)
      return 2
  for found in outcomes:
    print(found, *found.unseen, sep="\n  ")
  print(total(outcomes))
  if is_enough(total(outcomes)):
    return 0
  print(
    f"mutation: less than {LEAST_PERCENT} % were noticed; add tests (what a change is: "
    f"`mutmut show NAME` in {FOLDER}/MODULE)",
    file=sys.stderr,
  )
  return 1


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
