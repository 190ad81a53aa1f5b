"""Reads from a module's source which modules it imports."""

import ast
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

# Top-level folders with Python code of ours.
CODE_FOLDERS = (
  "fedtiny_tff",
  "tflite_export",
  "pipelines",
  "benchmarks",
  "tools",
  "tests",
)

# Where a plug-in is that is imported later, see `fedtiny_tff.plugins`.
_PLACE = re.compile(rf"((?:{'|'.join(CODE_FOLDERS)})(?:\.\w+)+):(\w+)")


class Import(NamedTuple):
  """One imported name.

  Attributes:
    line: Where in the source.
    name: Dotted and absolute. `from a import b` gives "a.b", as b may be a module.
  """

  line: int
  name: str


def module_name(path: pathlib.PurePath) -> str:
  """Returns the dotted name of a source file given relative to the checkout."""
  parts = path.with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files(root: pathlib.Path) -> list[pathlib.Path]:
  """Returns our Python files, relative to root and sorted."""
  return sorted(
    path.relative_to(root)
    for folder in CODE_FOLDERS
    for path in (root / folder).rglob("*.py")
  )


def imports(source: str, path: pathlib.PurePath) -> list[Import]:
  """Lists what a module imports, also inside functions, by name and as a plug-in.

  Args:
    source: The module's source.
    path: Its file relative to the checkout, to resolve relative imports.

  Returns:
    Imports in source order; the same name may come several times.
  """
  package = module_name(path).split(".")
  if path.name != "__init__.py":
    package = package[:-1]
  found = [
    Import(node.lineno, name)
    for node in ast.walk(ast.parse(source, str(path)))
    for name in _names(node, package)
  ]
  return sorted(found)


def _names(node: ast.AST, package: list[str]) -> Iterator[str]:
  if isinstance(node, ast.Import):
    yield from (alias.name for alias in node.names)
  elif isinstance(node, ast.ImportFrom):
    above = package[: len(package) + 1 - node.level] if node.level else []
    base = [*above, *([node.module] if node.module else [])]
    yield from (
      ".".join(base if alias.name == "*" else [*base, alias.name])
      for alias in node.names
    )
  elif isinstance(node, ast.Constant) and isinstance(node.value, str):
    if place := _PLACE.fullmatch(node.value):
      yield ".".join(place.groups())
  elif isinstance(node, ast.Call):
    called = ast.unparse(node.func)
    if called in ("importlib.import_module", "import_module", "__import__"):
      yield from (
        argument.value
        for argument in node.args[:1]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
      )
