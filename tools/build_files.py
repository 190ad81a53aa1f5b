"""Writes the Bazel BUILD files from the imports: `make build-files`.

One `py_library` per module, one `py_test` per `*_test.py`, with the dependencies
that the sources really have. `tests/build_files_test.py` fails when a committed file
differs from what this writes.
"""

import graphlib
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from tools import imports

_DEFS = "@rules_python//python:defs.bzl"
_HEADER = "# Written by `make build-files`; change the imports, not this file."
_EXPORTED = ("LICENSE", "pyproject.toml", "requirements.txt", "requirements-dev.txt")
_TEST_RUNNER = "//:tools/pytest_main.py"

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

# Imported where they are used, and only if somebody installed them.
_OPTIONAL = {"mkdocs", "mlflow", "tensorflow_datasets", "wandb"}

# Tests that read the whole checkout, which a sandbox does not hold.
_WHOLE_CHECKOUT_TESTS = {
  "tests.build_files_test",
  "tests.docs.architecture_test",
  "tests.docs.site_test",
  "tests.docs.snippets_run_test",
  "tests.docs.snippets_test",
  "tests.docs.troubleshooting_test",
  "tests.fedtiny_tff.models.table_test",
  "tests.import_rings_test",
  "tests.pipelines.doctor_test",
}


class BuildFilesError(Exception):
  """The sources cannot be described: an unlocked import or a circle of imports."""


def build_files(root: pathlib.Path) -> dict[str, str]:
  """Returns the content of every BUILD file by its path.

  Args:
    root: The checkout.

  Returns:
    Path relative to root, such as "pipelines/BUILD", to content.

  Raises:
    BuildFilesError: An import is in no lock file, or modules import in a circle.
  """
  files = {imports.module_name(path): path for path in imports.source_files(root)}
  names = {
    module: {
      found.name
      for found in imports.imports((root / path).read_text(encoding="utf-8"), path)
    }
    for module, path in files.items()
  }
  dependencies = own_dependencies(files, names)
  locked = _locked(root)
  contents: dict[str, list[str]] = {}
  for module, path in files.items():
    outside = [name for name in names[module] if _longest_prefix(name, files) is None]
    labels = [_label(files[name], path) for name in dependencies[module]]
    labels += external_labels(path, outside, locked)
    contents.setdefault(_home(path), []).append(_rule(module, path, labels))
  return {
    f"{home}/BUILD".lstrip("/"): "\n".join([*_opening(home, rules), *rules])
    for home, rules in sorted(contents.items())
  }


def own_dependencies(
  files: Mapping[str, pathlib.Path], names: Mapping[str, set[str]]
) -> dict[str, set[str]]:
  """Finds for every module which of our modules it needs.

  Args:
    files: Module to file.
    names: Module to the dotted names it imports.

  Returns:
    Module to the modules it imports and the packages around it. A package whose
    `__init__.py` imports modules of ours is left out where it is only around: to
    Bazel, though not to Python, that would be a circle.

  Raises:
    BuildFilesError: Modules import in a circle.
  """
  needed: dict[str, set[str]] = {}
  for module in files:
    found = {_longest_prefix(name, files) for name in names[module]}
    needed[module] = {name for name in found if name is not None} - {module}
  plain = {
    module
    for module, path in files.items()
    if path.name == "__init__.py" and not needed[module]
  }
  for module, path in files.items():
    needed[module] |= plain & set(_prefixes(module)[1:])
    if path.name.endswith("_test.py"):
      folders = [path.parts[:depth] for depth in range(len(path.parts))]
      conftests = {".".join([*parts, "conftest"]) for parts in folders}
      needed[module] |= conftests & set(files)
  try:
    graphlib.TopologicalSorter(needed).prepare()
  except graphlib.CycleError as error:
    circle = " -> ".join(error.args[1])
    raise BuildFilesError(f"modules import in a circle: {circle}") from None
  return needed


def external_labels(
  path: pathlib.PurePath, names: Iterable[str], locked: set[str]
) -> list[str]:
  """Returns the labels of the installed packages that a module imports.

  Args:
    path: The module's file, for the message.
    names: Dotted names it imports that are not ours.
    locked: Names of the packages in the lock files.

  Raises:
    BuildFilesError: A package is in no lock file.
  """
  labels = set()
  for name in names:
    top = name.split(".")[0]
    if top in sys.stdlib_module_names or top in _OPTIONAL:
      continue
    key = _longest_prefix(name, _DISTRIBUTIONS)
    distribution = _DISTRIBUTIONS[key] if key else top.lower().replace("_", "-")
    if distribution not in locked:
      raise BuildFilesError(
        f"{path}: {name} is neither ours nor in a lock file; add {distribution} to a"
        " requirements*.in, or its right name to _DISTRIBUTIONS"
      )
    labels.add(f"@pypi//{distribution.replace('-', '_')}")
  return sorted(labels)


def main(root: pathlib.Path) -> int:
  """Writes the files that differ under root and returns the exit code."""
  try:
    contents = build_files(root)
  except (BuildFilesError, SyntaxError) as error:
    print(f"build-files: {error}", file=sys.stderr)
    return 2
  for name, content in contents.items():
    path = root / name
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
      path.write_text(content, encoding="utf-8")
      print(f"build-files: wrote {name}")
  return 0


def _locked(root: pathlib.Path) -> set[str]:
  return {
    name.lower().replace("_", "-")
    for lock in ("requirements.txt", "requirements-dev.txt")
    for name in re.findall(
      r"^([\w.-]+)==", (root / lock).read_text(encoding="utf-8"), re.MULTILINE
    )
  }


def _prefixes(name: str) -> list[str]:
  parts = name.split(".")
  return [".".join(parts[:size]) for size in range(len(parts), 0, -1)]


def _longest_prefix(name: str, known: Mapping[str, object]) -> Optional[str]:
  return next((prefix for prefix in _prefixes(name) if prefix in known), None)


def _home(path: pathlib.PurePath) -> str:
  # The tools have no BUILD file of their own; the one at the top describes them.
  return "" if path.parts[0] == "tools" else path.parts[0]


def _target(path: pathlib.PurePath) -> str:
  home = _home(path)
  return path.with_suffix("").relative_to(home or ".").as_posix()


def _label(path: pathlib.PurePath, seen_from: pathlib.PurePath) -> str:
  same = _home(path) == _home(seen_from)
  return f"{'' if same else '//' + _home(path)}:{_target(path)}"


def _opening(home: str, rules: Iterable[str]) -> list[str]:
  lines = [f'"""Targets of {home or "tools"}."""', "", _HEADER]
  kinds = "".join(f', "{kind}"' for kind in sorted({r.split("(")[0] for r in rules}))
  lines += [f'load("{_DEFS}"{kinds})', ""]
  lines += ['package(default_visibility = ["//visibility:public"])', ""]
  if not home:
    exported = ", ".join(f'"{name}"' for name in (*_EXPORTED, "tools/pytest_main.py"))
    return [*lines, 'licenses(["notice"])', "", f"exports_files([{exported}])", ""]
  return [
    *lines,
    "filegroup(",
    '    name = "package_data",',
    "    srcs = glob(",
    '        ["**"],',
    "        allow_empty = True,",
    '        exclude = ["**/*.py", "**/*.pyc", "BUILD"],',
    "    ),",
    ")",
    "",
  ]


def _rule(module: str, path: pathlib.PurePath, labels: Iterable[str]) -> str:
  target = _target(path)
  attributes: dict[str, Sequence[str]] = {}
  is_test = path.name.endswith("_test.py")
  dependencies = set(labels)
  if is_test:
    dependencies.add("@pypi//pytest")
    attributes["srcs"] = [f"{target}.py", _TEST_RUNNER]
    attributes["args"] = [f"$(rootpath {target}.py)"]
    attributes["data"] = [":package_data", "//:pyproject.toml"]
    attributes["tags"] = ["local"] if module in _WHOLE_CHECKOUT_TESTS else []
  else:
    attributes["srcs"] = [f"{target}.py"]
    attributes["data"] = [":package_data"] if module == _home(path) else []
  attributes["deps"] = sorted(dependencies)
  lines = [f"py_{'test' if is_test else 'library'}(", f'    name = "{target}",']
  if is_test:
    lines.append(f'    main = "{_TEST_RUNNER}",')
  elif path.parts[0] == "tests":
    lines.append("    testonly = True,")
  for name, values in attributes.items():
    lines += _list_attribute(name, values)
  return "\n".join([*lines, ")", ""])


def _list_attribute(name: str, values: Sequence[str]) -> list[str]:
  if not values:
    return []
  if len(values) == 1:
    return [f'    {name} = ["{values[0]}"],']
  return [f"    {name} = [", *(f'        "{value}",' for value in values), "    ],"]


if __name__ == "__main__":
  sys.exit(main(pathlib.Path(__file__).resolve().parents[1]))
