"""What `make mutation` asks of mutmut, and what it makes of the answers."""

import pathlib
import tomllib

import pytest

from tools import mutation

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULE = mutation.Module("x", "fedtiny_tff/x.py", "tests/fedtiny_tff/x_test.py")


def test_every_module_has_tests_of_its_own():
  found = mutation.modules(ROOT)
  assert {"sparsity/masks", "sparsity/packing", "strategies/fedtiny"} <= {
    module.name for module in found
  }
  for module in found:
    assert (ROOT / module.source).is_file()
    assert (ROOT / module.tests).is_file()


def test_only_the_module_is_changed_and_only_its_tests_run():
  asked = tomllib.loads(mutation.settings(MODULE))["tool"]["mutmut"]
  assert asked["only_mutate"] == [MODULE.source]
  assert asked["pytest_add_cli_args_test_selection"] == [MODULE.tests]
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
  assert (folder / MODULE.tests).is_file()
  tools = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]
  assert set(tools) == {"pytest", "mutmut"}
  # What an earlier time left is gone.
  (folder / "mutants").mkdir()
  assert not (mutation._prepare(tmp_path, MODULE) / "mutants").exists()


def test_a_module_that_is_not_there(capsys):
  assert mutation.main(["nothing"]) == 2
  assert capsys.readouterr().err.startswith(
    "mutation: no nothing; take of sparsity/masks,"
  )
