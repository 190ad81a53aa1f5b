"""What `make mutation` asks of mutmut, and what it makes of the answers."""

import pathlib
import subprocess
import sys
import tomllib

import pytest

from tools import mutation

ROOT = pathlib.Path(__file__).resolve().parents[1]
TESTS = ("tests/fedtiny_tff/x_test.py",)
MODULE = mutation.Module("x", "fedtiny_tff/x.py", TESTS)


def test_every_module_has_tests_of_its_own():
  found = mutation.modules(ROOT)
  assert {"sparsity/masks", "sparsity/packing", "strategies/fedtiny"} <= {
    module.name for module in found
  }
  (own,) = (each for each in found if each.name == "strategies/fedtiny")
  assert [pathlib.Path(each).name for each in own.tests] == [
    *("fedtiny_channel_blocks_test.py", "fedtiny_test.py")
  ]
  for module in found:
    assert (ROOT / module.source).is_file()
    assert all((ROOT / each).is_file() for each in module.tests)


def test_only_the_module_is_changed_and_only_its_tests_run():
  asked = tomllib.loads(mutation.settings(MODULE))["tool"]["mutmut"]
  assert asked["only_mutate"] == [MODULE.source]
  assert asked["pytest_add_cli_args_test_selection"] == list(TESTS)
  assert asked["process_isolation"] == "forkserver"


def test_only_failing_tests_are_notice():
  # Failed, passed, error outside of a test, no test, out of time, not tried.
  codes = {"f": 1, "p": 0, "e": 3, "n": 33, "t": 36, "o": None}
  found = mutation.outcome(MODULE, codes)
  assert found == mutation.Outcome("x", 6, ("n", "o", "p", "t"))
  assert str(found) == "x: 2 of 6 changes noticed, 33 %"


@pytest.mark.parametrize(("unseen", "enough"), [(3, True), (4, False)])
def test_the_gate_is_on_all_modules_together(unseen, enough):
  # 17 of 20 are 85 %.
  names = tuple(map(str, range(unseen)))
  parts = [mutation.Outcome("a", 4, names), mutation.Outcome("b", 16, ())]
  assert mutation.is_enough(mutation.total(parts)) == enough


def test_copies_are_changed_never_the_checkout(tmp_path):
  for name in ("fedtiny_tff/x.py", "tests/fedtiny_tff/x_test.py"):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("")
  (tmp_path / "pyproject.toml").write_text("[tool.pytest]\n")
  folder = mutation._prepare(tmp_path, MODULE)
  assert folder == tmp_path / "build/mutation/x"
  assert (folder / MODULE.source).is_file()
  assert (folder / TESTS[0]).is_file()
  tools = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]
  assert set(tools) == {"pytest", "mutmut"}
  # What an earlier time left is gone.
  (folder / "mutants").mkdir()
  assert not (mutation._prepare(tmp_path, MODULE) / "mutants").exists()


_PLUGIN = "tools.mutation_plugin"
_GRAPH = """
import importlib
import tensorflow as tf
from mutmut.mutation import trampoline
if {with_plugin}:
  plugin = importlib.import_module("{plugin}")
  assert trampoline.wrap_in_trampoline is plugin.wrap_opaquely

def unchanged(total):
  return total + 1

def changed(total):
  return total - 3

@trampoline.wrap_in_trampoline({{"_mutmut_orig": unchanged, "x_added__mutmut_1": changed}})
def added(total):
  return total + 1

@tf.function
def called(total):
  return added(total)

@tf.function
def handed_on(total, function):
  return function(total)

print(int(called(tf.constant(5))), int(handed_on(tf.constant(5), added)))
"""


@pytest.mark.parametrize(
  # Called in a graph, and given to one: there mutmut's wrapper alone is looked through.
  ("with_plugin", "printed"),
  [(True, "2 2"), (False, "2 6")],
)
def test_changes_run_in_graphs(tmp_path, with_plugin, printed):
  # AutoGraph converts only what has a source.
  script = tmp_path / "graph.py"
  script.write_text(_GRAPH.format(with_plugin=with_plugin, plugin=_PLUGIN))
  ended = subprocess.run(
    [sys.executable, script],
    env={
      "MUTANT_UNDER_TEST": "__main__.x_added__mutmut_1",
      "PYTHONPATH": str(ROOT),
      "TF_CPP_MIN_LOG_LEVEL": "3",
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert ended.stdout.strip() == printed, ended.stderr[-2000:]


def test_a_module_that_is_not_there(capsys):
  assert mutation.main(["nothing"]) == 2
  assert capsys.readouterr().err.startswith(
    "mutation: no nothing; take of sparsity/masks,"
  )
