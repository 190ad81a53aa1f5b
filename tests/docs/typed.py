"""Whether a command could be typed: everything that it names is there and fits."""

import importlib
import importlib.util
import re

from pipelines.apps import app
from pipelines.settings import config
from tests.docs import snippets
from tests.pipelines import support

# Their flags make a configuration that is checked beyond each flag by itself.
_CONFIGURED = ("pipelines.run", "pipelines.train")
_MAKEFILE = (snippets.ROOT / "Makefile").read_text(encoding="utf-8")


def problem(command):
  """Returns what is wrong with a command, or nothing."""
  found = snippets.words(command)
  while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
    found.pop(0)
  if found[:1] == ["make"]:
    return _make_problem(found[1:])
  if found[:2] == ["python", "-m"]:
    return _module_problem(found[2], found[3:])
  return f"{command}: is nothing of ours; say why it cannot be run"


def _make_problem(given):
  for each in given:
    name, mark, _ = each.partition("=")
    known = rf"^{name} \?=" if mark else rf"^{re.escape(each)}:"
    if not re.search(known, _MAKEFILE, re.M):
      return f"make {' '.join(given)}: the Makefile has no {each}"
  return ""


def _module_problem(name, given):
  if name == "pytest":
    missing = [
      each
      for each in given
      if each.endswith(".py") and not (snippets.ROOT / each).is_file()
    ]
    return f"pytest: {missing[0]} is not there" if missing else ""
  try:
    if importlib.util.find_spec(name) is None:
      return f"{name}: is not there"
  except ModuleNotFoundError:
    return f"{name}: is not there"
  if not name.startswith("pipelines.") or "--help" in given:
    return ""
  return _flags_problem(name, given)


def _flags_problem(name, given):
  importlib.import_module(name)
  if "--dry_run" in given:
    given = [*given, "--output_dir=never_made"]
  # Those of a run are made by a command before.
  given = [each for each in given if not each.startswith("--flagfile=runs/")]
  try:
    with support.fresh_flags():
      # Arguments besides flags are counted when the app runs.
      arguments = [""] * sum(not each.startswith("-") for each in given)
      app._parse([name, *given], arguments, {})
      if name in _CONFIGURED:
        config.from_flags()
  except Exception as error:
    return f"{name} {' '.join(given)}: {error}"
  return ""
