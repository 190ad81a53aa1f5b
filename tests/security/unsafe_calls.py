"""Finds in a module's source what could run code that data bring along."""

import ast
import pathlib
import re
from collections.abc import Iterator

from tools import imports

# They unpickle, or load what is as good as a program.
UNSAFE_MODULES = {
  *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"),
  *("marshal", "jsonpickle", "xmlrpc", "yaml"),
}
_UNSAFE_WORD = re.compile(rf"\b({'|'.join(sorted(UNSAFE_MODULES))})\b")
_ADVICE = {
  **dict.fromkeys(("eval", "exec", "compile", "execfile"), "evaluates text"),
  **dict.fromkeys(("os.system", "os.popen", "os.spawnl"), "starts a shell"),
  **dict.fromkeys(
    ("subprocess.getoutput", "subprocess.getstatusoutput"), "starts a shell"
  ),
  "tempfile.mktemp": "names a file that another process may make first",
}
# Attributes of whatever object they are called on, for aliases are many.
_ATTRIBUTES = {
  **dict.fromkeys(("read_pickle", "load_pickle"), "unpickles"),
  **dict.fromkeys(
    ("model_from_json", "model_from_yaml", "model_from_config"),
    "makes layers of any configuration",
  ),
  **dict.fromkeys(
    ("deserialize", "deserialize_keras_object", "enable_unsafe_deserialization"),
    "makes objects of any configuration",
  ),
  **dict.fromkeys(("extractall", "unpack_archive"), "unpacks wherever entries say"),
  **dict.fromkeys(
    ("parse_example", "parse_single_example", "parse_sequence_example"),
    "believes the lengths that a record states",
  ),
  **dict.fromkeys(("numpy_function", "py_function"), "runs Python by name"),
}
_NUMPY_LOADERS = ("load", "read_array")


def unsafe_calls(source: str, path: str) -> list[str]:
  """Lists what a source may not do, as `path:line: what`.

  Names are followed through `import a as b` and `from a import b as c`; what is put
  together at run time (`getattr(numpy, "lo" + "ad")`) is not found.
  """
  file = pathlib.PurePosixPath(path)
  tree = ast.parse(source, path)
  found = []
  # Most sources name none of them, and parsing takes time.
  if _UNSAFE_WORD.search(source):
    found = [
      (line, f"imports {name}")
      for line, name in imports.imports(source, file)
      if name.split(".")[0] in UNSAFE_MODULES
    ]
  names = _imported_names(tree)
  for node in ast.walk(tree):
    if isinstance(node, ast.Call):
      found += [(node.lineno, problem) for problem in _problems(node, names)]
  return [f"{path}:{line}: {problem}" for line, problem in sorted(set(found))]


def _imported_names(tree: ast.AST) -> dict[str, str]:
  """Returns what each imported name stands for, dotted."""
  names = {}
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for alias in node.names:
        first = alias.name.split(".")[0]
        names[alias.asname or first] = alias.name if alias.asname else first
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
      for alias in node.names:
        names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
  return names


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
  """Returns what a call's function is called, as far as that is written down."""
  if isinstance(node, ast.Attribute):
    return f"{_dotted(node.value, names)}.{node.attr}"
  if isinstance(node, ast.Name):
    return names.get(node.id, node.id)
  return "?"


def _problems(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
  name = _dotted(call.func, names).removeprefix("builtins.")
  last = name.rpartition(".")[2]
  if name in _ADVICE:
    yield f"{name} {_ADVICE[name]}"
  if last in _ATTRIBUTES:
    yield f"{name} {_ATTRIBUTES[last]}"
  is_numpys = name.startswith("numpy.") and last in _NUMPY_LOADERS
  if is_numpys and not _says(call, "allow_pickle", False):
    yield f"{name} without allow_pickle=False"
  if last == "load_model" and not _says(call, "safe_mode", True):
    yield f"{name} without safe_mode=True"
  if last in ("load_model", "load_weights") or name.endswith("saved_model.load"):
    yield f"{name} reads a model's file itself"
  has_shell = any(each.arg == "shell" for each in call.keywords)
  if has_shell and not _says(call, "shell", False):
    yield f"{name} with shell=True"


def _says(call: ast.Call, argument: str, value: bool) -> bool:
  """Tells whether a call gives an argument as a constant."""
  given = [each.value for each in call.keywords if each.arg == argument]
  return bool(given) and isinstance(given[0], ast.Constant) and given[0].value is value
