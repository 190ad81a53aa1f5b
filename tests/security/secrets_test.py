"""Passwords and keys are in no message and in no file."""

import ast
import os
import pathlib

import pytest

from pipelines import run
from pipelines.apps import credentials, redaction
from tests.pipelines import support
from tools import imports

ROOT = pathlib.Path(__file__).resolve().parents[2]
_SECRET = "hunter2-canary"
_URL = f"https://me:{_SECRET}@host.example/x"
_VARIABLES = (
  "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
  "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY_PASSWORD", "SOMETHING_ELSE",
)  # fmt: skip
# Where the whole environment is handed to a program that is started, and kept nowhere.
_HANDED_ON = {
  "benchmarks/data_scale.py",
  "fedtiny_tff/federated/runtimes/worker_process.py",
  "pipelines/apps/redaction.py",
  "tools/audit.py",
  "pipelines/firmware/cpp_compiler.py",
  "tools/arm64_parts.py",
  "tools/docs_site.py",
  "tools/mutation.py",
  "tools/setup_packages.py",
}
_ONE_VARIABLE = ("get", "setdefault", "pop")


def _whole_environment(source: str) -> list[int]:
  """Lists the lines where `os.environ` is used otherwise than for one variable."""
  tree = ast.parse(source)
  parents = {
    child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
  }
  found = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ":
      user = parents[node]
      is_one = isinstance(user, ast.Subscript) or (
        isinstance(user, ast.Attribute) and user.attr in _ONE_VARIABLE
      )
      if not is_one:
        found.append(node.lineno)
    # Another name for it would not be followed.
    if isinstance(node, ast.ImportFrom) and node.module == "os":
      found += [node.lineno for name in node.names if name.name == "environ"]
  return found


def test_the_environment_is_kept_nowhere():
  users = {
    path.as_posix()
    for path in imports.source_files(ROOT)
    if path.parts[0] != "tests"
    and "environ" in (source := (ROOT / path).read_text(encoding="utf-8"))
    and _whole_environment(source)
  }
  assert users == _HANDED_ON


@pytest.mark.parametrize(
  ("source", "is_found"),
  [
    ("json.dumps(dict(os.environ))", True),
    ("x = {**os.environ}", True),
    ("for name in os.environ: print(name)", True),
    ("os.environ.items()", True),
    ("from os import environ", True),
    ("os.environ.get('HOME')", False),
    ("os.environ['HOME'] = '/'", False),
    ("os.environ.setdefault('A', 'b')", False),
  ],
)
def test_uses_of_the_whole_environment_are_found(source, is_found):
  assert bool(_whole_environment(source)) is is_found


@pytest.mark.parametrize("flag", ["data_dir", "model", "rounds", "no_such_flag"])
@pytest.mark.parametrize("through", ["command line", "flagfile"])
def test_a_password_in_a_url_is_refused_and_not_repeated(
  tmp_path, capsys, flag, through
):
  argument = f"--{flag}={_URL}"
  if through == "flagfile":
    (tmp_path / "f.flags").write_text(f"{argument}\n")
    argument = f"--flagfile={tmp_path / 'f.flags'}"
  folder = tmp_path / "run"
  assert support.call("run", run.main, f"--output_dir={folder}", argument) == 2
  told = "".join(capsys.readouterr())
  assert told.count("\n") == 1
  assert _SECRET not in told and f"--{flag}" in told.replace("flag '", "flag '--")
  assert not folder.exists()


def test_an_argument_that_is_no_flag_is_not_repeated_either(capsys):
  assert support.call("run", run.main, _URL) == 2
  assert _SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
  ("text", "shown"),
  [
    (f"at {_URL}: no", "at https://***@host.example/x: no"),
    ("grpc://token@h:1,grpc://u:p@h", "grpc://***@h:1,grpc://***@h"),
    ("https://host/a@b", "https://host/a@b"),
    ("me@host", "me@host"),
    ("tfds:mnist", "tfds:mnist"),
  ],
)
def test_urls_are_shown_without_credentials(text, shown):
  assert redaction.redacted(text) == shown


def test_lists_are_looked_into():
  credentials.check_flags([("workers", ["a:1", "b:2"]), ("x", None), ("y", 3)])
  with pytest.raises(credentials.InputError, match="--workers: holds a user name"):
    credentials.check_flags([("workers", ["a:1", f"grpc://u:{_SECRET}@b:2"])])


@pytest.mark.slow
def test_a_whole_run_keeps_and_says_nothing_of_the_environment(
  tmp_path, monkeypatch, capfd
):
  for name in _VARIABLES:
    monkeypatch.setenv(name, f"{name}-{_SECRET}")
  folder = tmp_path / "run"
  values = {**support.TINY, "output_dir": folder, "targets": "android,mcu"}
  flagfile = support.write_flagfile(tmp_path / "tiny.flags", values)
  assert support.call("run", run.main, f"--flagfile={flagfile}") == 0
  assert _SECRET not in "".join(capfd.readouterr())
  files = [path for path in folder.rglob("*") if path.is_file()]
  assert len(files) > 20
  assert not [path for path in files if _SECRET.encode() in path.read_bytes()]
  assert os.environ["WANDB_API_KEY"].endswith(_SECRET)
