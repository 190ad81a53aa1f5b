"""No file and no function is too long to read at once, and little stands twice."""

import ast
import collections
import pathlib

from tools import imports

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILE_LINES = 400
FUNCTION_LINES = 60
RUN_LINES = 6
TWICE_PERCENT = 2.0
# Functions that are one text or one list, which would only be torn apart.
_LONG = {
  "pipelines/settings/run_flags.py: _define_training",
  "tflite_export/devices/device_readme.py: readme",
}


def _documentation_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
  if ast.get_docstring(node) is None:
    return 0
  first = node.body[0]
  return (first.end_lineno or first.lineno) - first.lineno + 1


def long_functions(source: str) -> list[str]:
  """Names the functions of more lines than allowed, docstrings not counted."""
  return [
    node.name
    for node in ast.walk(ast.parse(source))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    and (node.end_lineno or node.lineno) - node.lineno + 1 - _documentation_lines(node)
    > FUNCTION_LINES
  ]


def percent_twice(sources: list[str]) -> float:
  """Returns which share of the lines lies in runs that stand in several places.

  Blank lines, comments and imports do not count, nor does indentation.
  """
  kept = [
    [
      line.strip()
      for line in source.splitlines()
      if line.strip() and not line.lstrip().startswith(("#", "import ", "from "))
    ]
    for source in sources
  ]
  places = collections.defaultdict(list)
  for file, lines in enumerate(kept):
    for start in range(len(lines) - RUN_LINES + 1):
      places["\n".join(lines[start : start + RUN_LINES])].append((file, start))
  again = {
    (file, start + offset)
    for each in places.values()
    if len(each) > 1
    for file, start in each
    for offset in range(RUN_LINES)
  }
  return 100 * len(again) / sum(map(len, kept))


def _sources(*folders: str) -> dict[str, str]:
  return {
    path.as_posix(): (ROOT / path).read_text(encoding="utf-8")
    for path in imports.source_files(ROOT)
    if path.parts[0] in folders
  }


def test_no_file_is_too_long():
  sources = _sources(*imports.CODE_FOLDERS)
  long = {path: source.count("\n") for path, source in sources.items()}
  assert not {path: lines for path, lines in long.items() if lines > FILE_LINES}


def test_no_function_is_too_long_without_a_reason():
  found = {
    f"{path}: {name}"
    for path, source in _sources(*imports.CODE_FOLDERS).items()
    for name in long_functions(source)
  }
  assert found == _LONG


def test_little_stands_twice():
  product = ("fedtiny_tff", "tflite_export", "pipelines")
  assert percent_twice(list(_sources(*product).values())) < TWICE_PERCENT
  assert percent_twice(list(_sources(*imports.CODE_FOLDERS).values())) < TWICE_PERCENT


def test_a_long_function_is_found_whatever_its_docstring():
  body = "  x = 1\n" * 59
  documented = '  """Text.\n' + "  more\n" * 70 + '  """\n'
  assert long_functions(f"def f():\n{documented}{body}") == []
  assert long_functions(f"def f():\n{documented}{body}  x = 2\n") == ["f"]


def test_runs_that_stand_twice_are_counted_in_both_places():
  run = [f"a{number} = {number}" for number in range(6)]
  other = [f"b{number} = {number}" for number in range(6)]
  assert percent_twice(["\n".join([*run, *other])]) == 0
  indented = [f"  {line}" for line in run]
  again = "\n".join(["import x", *other[:3], *indented, "", *other[3:]])
  # Six of twelve lines in either file.
  assert percent_twice(["\n".join([*run, *other]), again]) == 50
  assert percent_twice(["\n".join(run[:5]), "\n".join(run[:5])]) == 0
