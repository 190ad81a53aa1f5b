"""Set-up as it is started: on any Python, before anything is installed."""

import ast
import pathlib
import subprocess
import sys

import pytest

from tools import imports, setup

ROOT = pathlib.Path(__file__).resolve().parents[1]
_OLDEST_SYNTAX = (3, 7)


def _parts(name: str) -> set[str]:
  """Lists set-up's files: one, and those of ours that it needs."""
  path = pathlib.PurePosixPath("tools", name)
  source = (ROOT / path).read_text(encoding="utf-8")
  found = {name}
  for _, imported in imports.imports(source, path):
    top, *inner = imported.split(".")
    assert top == "tools" or top in sys.stdlib_module_names, f"{name}: {imported}"
    if top == "tools":
      found |= _parts(f"{inner[0]}.py")
  return found


def test_a_wrong_interpreter_ends_with_one_line_and_2(tmp_path, capsys):
  assert setup.main([f"--python={tmp_path / 'missing'}"]) == 2
  captured = capsys.readouterr()
  assert captured.err.count("\n") == 1
  assert "make setup PYTHON=" in captured.err


def test_a_folder_that_cannot_be_used_ends_with_one_line_and_2(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(setup, "_ROOT", tmp_path / "gone")
  assert setup.main([]) == 2
  said = capsys.readouterr().err
  assert said.startswith(f"setup: {tmp_path}/gone: No such file or directory; ")
  assert said.count("\n") == 1


def test_the_environment_of_another_checkout_is_not_emptied(
  tmp_path, capsys, monkeypatch
):
  others = tmp_path / "others"
  (others / "bin").mkdir(parents=True)
  (others / "fedtiny-setup.json").write_text("{}")
  (root := tmp_path / "checkout").mkdir()
  for name in setup.LOCKS:
    (root / name).write_text("")
  (root / ".venv").symlink_to(others)
  monkeypatch.setattr(setup, "_ROOT", root)
  assert setup.main([f"--python={sys.executable}"]) == 2
  said = capsys.readouterr().err
  assert said.startswith(f"setup: {root}/.venv is a link to {others} and not what ")
  assert said.count("\n") == 1
  assert (others / "bin").is_dir()
  assert (others / "fedtiny-setup.json").read_text() == "{}"


def test_set_up_needs_the_standard_library_only():
  assert len(_parts("setup.py")) == 5


@pytest.mark.parametrize("name", ["__init__.py", *sorted(_parts("setup.py"))])
def test_an_old_python_can_read_set_up(name):
  source = (ROOT / "tools" / name).read_text(encoding="utf-8")
  ast.parse(source, name, feature_version=_OLDEST_SYNTAX)
  newer = f"{source}\nif (last := 1): pass\n"
  with pytest.raises(SyntaxError):
    ast.parse(newer, name, feature_version=_OLDEST_SYNTAX)


@pytest.mark.parametrize("options", [[], ["-I"]])
def test_it_runs_as_a_script_from_anywhere(tmp_path, options):
  script = str(ROOT / "tools" / "setup.py")
  ended = subprocess.run(
    [sys.executable, *options, "-S", script, "--python=missing"],
    cwd=tmp_path, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert ended.returncode == 2
  assert ended.stderr.startswith("setup: no Python runs under the name missing; ")
