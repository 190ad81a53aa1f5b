"""What a module needs in Bazel's terms: modules of ours and installed packages."""

import graphlib
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Optional

from tools import imports

# The repository of Bazel that holds the packages of each lock file.
LOCKS = {"pypi": "requirements.txt", "pypi_dev": "requirements-dev.txt"}

# Where the name to import is not the name to install.
_DISTRIBUTIONS = {
  "PIL": "pillow",
  "absl": "absl-py",
  "google.protobuf": "protobuf",
  "grpc": "grpcio",
  "pkg_resources": "setuptools",
  "sklearn": "scikit-learn",
  "tree": "dm-tree",
  "yaml": "pyyaml",
}

# A string that is a dotted name.
_NAME = re.compile(r"""["'](\w+(?:\.\w+)+)["']""")

# Imported where they are used, and only if somebody installed them.
_OPTIONAL = {"mkdocs", "mlflow", "tensorflow_datasets", "wandb"}

# Tests that import what a text, a table or a folder names, and where that may be.
_NAMED_IN_DOCS = (
  *("//fedtiny_tff", "//fedtiny_tff/federated", "//fedtiny_tff/strategies"),
  *("//pipelines", "//tflite_export", "//benchmarks", "//:tools"),
)
_WHOLE_PACKAGES = {
  "tests.automation_test": _NAMED_IN_DOCS,
  "tests.benchmarks.summary_test": ("//benchmarks",),
  "tests.docs.own_data_test": _NAMED_IN_DOCS,
  "tests.docs.python_api_test": _NAMED_IN_DOCS,
  "tests.docs.snippets_test": _NAMED_IN_DOCS,
  "tests.docs.typed": _NAMED_IN_DOCS,
  "tests.pipelines.apps.commands_test": ("//pipelines",),
}


class BuildFilesError(Exception):
  """The sources cannot be described: an unlocked import or a circle of imports."""


def imported_names(
  root: pathlib.Path, files: Mapping[str, pathlib.Path]
) -> dict[str, set[str]]:
  """Reads which names each module imports.

  Args:
    root: The checkout.
    files: Module to file, relative to root.

  Returns:
    Module to dotted names. Who imports a name that its package loads only when asked
    for, see `fedtiny_tff.lazy_names`, imports also the module that has it. Tests
    import also what a string names, as they start such modules.
  """
  names = {}
  lazy = {}
  for module, path in files.items():
    source = (root / path).read_text(encoding="utf-8")
    names[module] = {found.name for found in imports.imports(source, path)}
    if path.parts[0] == "tests":
      names[module] |= set(_NAME.findall(source)) & set(files)
    stub = root / path.with_suffix(".pyi")
    if stub.is_file():
      found = imports.imports(stub.read_text(encoding="utf-8"), path)
      lazy[module] = {each.name.rpartition(".")[2]: each.name for each in found}
  for package, places in lazy.items():
    for module, own in names.items():
      if package in own and longest_prefix(module, lazy) != package:
        own |= set(places.values())
      own |= {place for name, place in places.items() if f"{package}.{name}" in own}
  return names


def own_dependencies(
  files: Mapping[str, pathlib.Path], names: Mapping[str, set[str]]
) -> dict[str, set[str]]:
  """Finds for every module which of our modules it needs.

  Args:
    files: Module to file.
    names: Module to the dotted names it imports.

  Returns:
    Module to the modules it imports and the packages around it. A package whose
    `__init__.py` needs the module is left out: to Bazel, though not to Python, that
    would be a circle.

  Raises:
    BuildFilesError: Modules import in a circle.
  """
  needed: dict[str, set[str]] = {}
  for module in files:
    found = {longest_prefix(name, files) for name in names[module]}
    needed[module] = {name for name in found if name is not None} - {module}
  for module, path in files.items():
    for package in _prefixes(module)[1:]:
      if package in files and module not in closure(package, needed):
        needed[module].add(package)
    if is_test(path):
      folders = [path.parts[:depth] for depth in range(len(path.parts))]
      conftests = {".".join([*parts, "conftest"]) for parts in folders}
      needed[module] |= conftests & set(files)
  try:
    graphlib.TopologicalSorter(needed).prepare()
  except graphlib.CycleError as error:
    circle = " -> ".join(error.args[1])
    raise BuildFilesError(f"modules import in a circle: {circle}") from None
  return needed


def is_test(path: pathlib.PurePath) -> bool:
  """Whether pytest collects a source; benchmarks may have names that end alike."""
  return path.parts[0] == "tests" and path.name.endswith("_test.py")


def closure(module: str, needed: Mapping[str, set[str]]) -> set[str]:
  """Returns a module and all it needs, directly or through others."""
  found: set[str] = set()
  waiting = {module}
  while waiting:
    found |= waiting
    waiting = {name for each in waiting for name in needed[each]} - found
  return found


def repositories(root: pathlib.Path) -> dict[str, str]:
  """Reads in which repository of Bazel each locked package is.

  Args:
    root: The checkout.

  Returns:
    Name of the package, with dashes, to a key of LOCKS; the first lock wins.
  """
  return {
    name.lower().replace("_", "-"): repository
    for repository, lock in reversed(LOCKS.items())
    for name in re.findall(
      r"^([\w.-]+)==", (root / lock).read_text(encoding="utf-8"), re.MULTILINE
    )
  }


def whole_packages(module: str) -> list[str]:
  """Returns the labels of the packages of ours from which a module imports by name."""
  return list(_WHOLE_PACKAGES.get(module, ()))


def distribution(name: str) -> str:
  """Returns the package to install for a dotted name that is imported."""
  key = longest_prefix(name, _DISTRIBUTIONS)
  return (
    _DISTRIBUTIONS[key]
    if key
    else name.split(".", maxsplit=1)[0].lower().replace("_", "-")
  )


def external_labels(
  path: pathlib.PurePath, names: Iterable[str], locked: Mapping[str, str]
) -> list[str]:
  """Returns the labels of the installed packages that a module imports.

  Args:
    path: The module's file, for the message.
    names: Dotted names it imports that are not ours.
    locked: Package to repository, see `repositories`.

  Raises:
    BuildFilesError: A package is in no lock file.
  """
  labels = set()
  for name in names:
    top = name.split(".")[0]
    if top in sys.stdlib_module_names or top in _OPTIONAL:
      continue
    package = distribution(name)
    if package not in locked:
      raise BuildFilesError(
        f"{path}: {name} is neither ours nor in a lock file; add {package} to a"
        " requirements*.in, or its right name to _DISTRIBUTIONS"
      )
    labels.add(f"@{locked[package]}//{package.replace('-', '_').replace('.', '_')}")
  return sorted(labels)


def longest_prefix(name: str, known: Mapping[str, object]) -> Optional[str]:
  """Returns the longest dotted prefix of a name that is known, or None."""
  return next((prefix for prefix in _prefixes(name) if prefix in known), None)


def _prefixes(name: str) -> list[str]:
  parts = name.split(".")
  return [".".join(parts[:size]) for size in range(len(parts), 0, -1)]
