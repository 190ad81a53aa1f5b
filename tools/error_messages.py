"""Reads from the source what the product tells its users when something is wrong.

Found are the errors that end a command in one line, and warnings. A message is shown as a
pattern: what is only known while the program runs stands in angle brackets.
"""

import ast
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional

from tools import imports

# What an error class or a warning's function is called, with the exit code; None: it
# goes on. Records that cannot be used end a run unless they are skipped.
KINDS: Mapping[str, Optional[int]] = {
  "InputError": 2,
  "QuantisationError": 2,
  "Final": 2,
  "UnusableImage": 2,
  "UnusableRecord": 2,
  "VerificationError": 3,
  "BudgetError": 4,
  "logging.warning": None,
  "progress.warn": None,
  "self._progress.warn": None,
}
_RECORDS = ("UnusableImage", "UnusableRecord")
FOLDERS = ("fedtiny_tff", "tflite_export", "pipelines")
_LONGEST_LIST = 200


class Message(NamedTuple):
  """What a user may be told.

  Attributes:
    module: Dotted name of the module that says it.
    line: Where in the module.
    pattern: The text, with `<name>` for what varies.
    exit_code: Of the command; None for a warning.
    is_record: Whether it is about one record, which can be skipped.
  """

  module: str
  line: int
  pattern: str
  exit_code: Optional[int]
  is_record: bool

  @property
  def text(self) -> str:
    """Returns the pattern without what varies."""
    return re.sub(r"<[a-z][^>]*>", "", self.pattern)

  @property
  def passes_on(self) -> bool:
    """Whether it only says where another message holds."""
    return not re.search(r"\w", self.text.replace("dataset", ""))


def messages(root: pathlib.Path) -> list[Message]:
  """Lists the messages of a checkout, by module and line."""
  sources = {
    path.relative_to(root): path.read_text(encoding="utf-8")
    for folder in FOLDERS
    for path in sorted((root / folder).rglob("*.py"))
  }
  constants = {
    f"{imports.module_name(path)}.{name}": value
    for path, source in sources.items()
    for name, value in _constants(ast.parse(source)).items()
  }
  return [
    message
    for path, source in sources.items()
    for message in of_source(source, path, constants)
  ]


def of_source(
  source: str,
  path: pathlib.PurePath,
  imported: Optional[Mapping[str, ast.expr]] = None,
) -> list[Message]:
  """Lists the messages of one module.

  Args:
    source: The module's source.
    path: Its file, relative to the checkout.
    imported: Constants that other modules define, by dotted name.
  """
  tree = ast.parse(source, str(path))
  patterns = _Patterns(tree, imported or {})
  found = [
    Message(imports.module_name(path), node.lineno, text, KINDS[kind], kind in _RECORDS)
    for node in ast.walk(tree)
    if isinstance(node, ast.Call) and (kind := _kind(node)) and node.args
    for text in patterns.of(node.args[1 if kind == "UnusableRecord" else 0], node.args)
  ]
  return sorted(found)


def _kind(node: ast.Call) -> Optional[str]:
  name = ast.unparse(node.func)
  return name if name in KINDS else None


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
  return {
    node.targets[0].id: node.value
    for node in tree.body
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
  }


class _Patterns:
  """Texts of expressions in one module."""

  def __init__(self, tree: ast.Module, imported: Mapping[str, ast.expr]):
    self._functions = {
      node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    taken = {
      name.asname or name.name: f"{node.module}.{name.name}"
      for node in tree.body
      if isinstance(node, ast.ImportFrom)
      for name in node.names
    }
    self._constants = _constants(tree)
    for name, source in taken.items():
      if source in imported:
        self._constants[name] = imported[source]

  def of(self, node: ast.expr, arguments: list[ast.expr]) -> list[str]:
    """Returns the texts that an expression may give, on one line each."""
    values = iter(arguments[1:])
    return [
      # logging's own placeholders take the arguments that follow.
      " ".join(re.sub(r"%[sd]", lambda _: f"<{_name(next(values))}>", text).split())
      for text in self._texts(node)
    ]

  def _texts(self, node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
      yield from self._texts(node.body)
      yield from self._texts(node.orelse)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
      # What is only sometimes added is left out.
      optional = isinstance(node.right, ast.IfExp)
      ends = [""] if optional else list(self._texts(node.right))
      yield from (begin + end for begin in self._texts(node.left) for end in ends)
    elif isinstance(node, ast.Call) and (told := self._returned(node)):
      for each in told:
        yield from self._texts(each)
    else:
      yield self._text(node)

  def _returned(self, node: ast.Call) -> list[ast.expr]:
    """Returns what a function of this module may return, if these are texts."""
    function = self._functions.get(ast.unparse(node.func).removeprefix("self."))
    if function is None:
      return []
    found = [each.value for each in ast.walk(function) if isinstance(each, ast.Return)]
    return [each for each in found if isinstance(each, (ast.JoinedStr, ast.BinOp))]

  def _text(self, node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
      return "".join(self._text(value) for value in node.values)
    if isinstance(node, ast.FormattedValue):
      return self._text(node.value)
    if isinstance(node, ast.Constant):
      return str(node.value)
    if isinstance(node, ast.Name) and node.id in self._constants:
      value = self._constants[node.id]
      if isinstance(value, ast.Constant) and value.value is not None:
        return str(value.value)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".join"):
      return self._joined(node)
    return f"<{_name(node)}>"

  def _joined(self, node: ast.Call) -> str:
    listed = node.args[0]
    if isinstance(listed, ast.Name):
      listed = self._constants.get(listed.id, listed)
    if isinstance(listed, (ast.Tuple, ast.List)):
      names = [self._text(each) for each in listed.elts]
      if len(text := ", ".join(names)) < _LONGEST_LIST:
        return text
    return f"<{_name(node.args[0])}, …>"


def _name(node: ast.expr) -> str:
  """Returns a short name for what an expression stands for."""
  named = _own_name(node)
  if named is not None:
    return named.strip("_").lower().replace("_", " ")
  if isinstance(node, ast.Call) and ast.unparse(node.func) == "len":
    return f"number of {_name(node.args[0])}"
  return next(map(_name, _inside(node)), "text")


def _own_name(node: ast.expr) -> Optional[str]:
  if isinstance(node, ast.Name):
    return node.id
  if isinstance(node, ast.Attribute) and node.attr != "value":
    return node.attr
  if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
    return node.slice.value if isinstance(node.slice.value, str) else None
  return None


def _inside(node: ast.expr) -> Iterator[ast.expr]:
  """Yields the parts of an expression that may name it, the best first."""
  if isinstance(node, ast.Call):
    yield from (each for each in node.args if not isinstance(each, ast.Constant))
    yield node.func
  elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
    yield node.generators[0].iter
  else:
    for child in ast.iter_child_nodes(node):
      if isinstance(child, ast.expr) and not isinstance(child, ast.Constant):
        yield child
