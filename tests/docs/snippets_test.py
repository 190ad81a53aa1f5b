"""Whatever README and docs/ tell to type can be typed.

Here commands are parsed: modules, targets, flags and their values are there, and a run's
configuration holds. `snippets_run_test.py` runs them, with fewer rounds.
"""

import ast
import importlib
import importlib.util
import re
import shutil
import subprocess

import pytest
from absl import flags

from tests.docs import snippets, typed
from tests.tflite_export.cpp import needs_compiler

BLOCKS = snippets.blocks()
MARKERS = ("", "not run", "parsed only")
# Names that stand for the reader's own, in commands within a text.
_READERS_OWN = re.compile(r"\b(?:DIR|FILE|FOLDER|RUN\d?|NAME|HOST|PORT|OTHER)\b|…|\|")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_can_be_typed(block, monkeypatch):
  monkeypatch.chdir(snippets.ROOT)
  assert block.marker in MARKERS, f"{block.place}: unknown marker {block.marker!r}"
  assert bool(block.reason.strip()) == bool(block.marker)
  if block.language in snippets.SHOWN:
    return
  if block.marker == "not run":
    assert len(block.reason) > 10
    assert block.language != "python" or not _missing_names(block.text)
    return
  assert block.language in snippets.TYPED, (
    f"{block.place}: name the language, one of {snippets.TYPED} or {snippets.SHOWN}; "
    f"what cannot be run has <!-- not run: reason --> in front"
  )
  if block.page in snippets.ELSEWHERE:
    return
  if block.language == "python":
    compile(block.text, block.place, "exec")
    assert not _missing_names(block.text)
  elif block.language == "cpp":
    assert _compiles(block.text)
  elif block.language == "sh":
    found = map(typed.problem, snippets.lines_of(block.text))
    assert not list(filter(None, found)), block.place


def _compiles(text):
  if shutil.which("g++") is None:
    pytest.skip(needs_compiler.kwargs["reason"])
  command = ["g++", "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", "-x", "c++", "-"]
  return subprocess.run(command, input=text, text=True, check=False).returncode == 0


def test_what_does_not_compile_is_found():
  assert not _compiles("int f() { return missing; }")


def _missing_names(text):
  """Lists what a script imports of ours that is not there."""
  missing = []
  for node in ast.walk(ast.parse(text)):
    if not isinstance(node, ast.ImportFrom) or not node.module:
      continue
    if node.module.split(".")[0] not in ("fedtiny_tff", "pipelines", "tflite_export"):
      continue
    module = importlib.import_module(node.module)
    missing += [
      f"{node.module}.{name.name}"
      for name in node.names
      if not hasattr(module, name.name)
      and importlib.util.find_spec(f"{node.module}.{name.name}") is None
    ]
  return missing


@pytest.mark.parametrize("page", snippets.pages())
def test_commands_within_a_text_can_be_typed(page, monkeypatch):
  monkeypatch.chdir(snippets.ROOT)
  problems: list[str] = []
  for command in snippets.inline(page):
    if not _READERS_OWN.search(command):
      problems.append(_inline_problem(command))
  assert not list(filter(None, problems))


def _inline_problem(command):
  """Returns what is wrong with a command in a text, where values may be left out."""
  found = snippets.words(command)
  if found[:2] != ["python", "-m"] or not found[2].startswith("pipelines."):
    return typed.problem(command)
  if importlib.util.find_spec(found[2]) is None:
    return f"{command}: no such module"
  return ""


def _known_flags():
  """Returns the flags of all apps, and those of tools that are not absl's."""
  for path in sorted((snippets.ROOT / "pipelines").glob("*.py")):
    if "app.leave(" in path.read_text(encoding="utf-8"):
      importlib.import_module(f"pipelines.{path.stem}")
  names = {*flags.FLAGS, "flagfile", "help"}
  return names | {f"no{name}" for name in names}


@pytest.mark.parametrize("page", snippets.pages())
def test_flags_that_are_named_are_there(page):
  text = (snippets.ROOT / page).read_text(encoding="utf-8")
  not_run = [
    each.text for each in snippets.blocks_of(text, page) if each.marker == "not run"
  ]
  for each in not_run:
    text = text.replace(each, "")
  # With an underscore or a value they are ours; pip, docker and mkdocs write dashes.
  named = set(re.findall(r"(?<![\w-])--([a-z]\w*)(?![\w-])", text))
  assert named - _known_flags() - _OTHERS == set()


# Of make, uv, docker, adb, Bazel, `fedtiny` itself and this project's tools; and what stands for
# a flag, or is mistyped to show what happens.
_OTHERS = {"check", "strict", "require", "file", "tag", "index", "version"}
_OTHERS |= {"name", "noname", "densty"}
_OTHERS |= {"test_arg", "test_filter", "test_size_filters", "test_timeout"}


@pytest.mark.parametrize(
  ("command", "said"),
  [
    ("python -m pipelines.run --no_such_flag=1 --output_dir=x", "no_such_flag"),
    (
      "python -m pipelines.run --flagfile=no/such.flags --output_dir=x",
      "no/such.flags",
    ),
    ("python -m pipelines.run --rounds=0 --output_dir=x", "rounds"),
    ("python -m pipelines.nothing", "is not there"),
    ("python -m tools.nothing", "is not there"),
    ("make nothing", "no nothing"),
    ("make run NOTHING=1", "no NOTHING=1"),
    ("docker build .", "is nothing of ours"),
  ],
)
def test_what_cannot_be_typed_is_found(command, said, monkeypatch):
  monkeypatch.chdir(snippets.ROOT)
  assert said in typed.problem(command)


def test_blocks_are_found_with_their_markers():
  text = "a\n\n<!-- not run: it is yours -->\n```sh\nx \\\n  y # z\n```\n\n  ```python\n  1\n  ```\n"
  first, second = snippets.blocks_of(text, "p.md")
  assert first == ("p.md", 4, "sh", "x \\\n  y # z\n", "not run", "it is yours")
  assert second == ("p.md", 9, "python", "1\n", "", "")
  assert snippets.lines_of(first.text) == ["x    y"]


def test_pages_with_tests_of_their_own_have_them():
  for page, test in snippets.ELSEWHERE.items():
    assert page in snippets.pages()
    assert (snippets.ROOT / test).is_file()
