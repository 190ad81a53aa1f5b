"""The commands and scripts of README and docs/ run, in their order, with fewer rounds."""

import shlex
import subprocess
import sys

import pytest

from tests.docs import snippets

pytestmark = pytest.mark.slow

# Set after the page's own flags, which they win over.
_FEWER = [
  *("--rounds=3", "--adjust_every_rounds=1", "--adjust_until_round=2"),
  *("--local_epochs=1", "--pretrain_epochs=1", "--quantisation_aware=never"),
]
_SHORTER = {
  "pipelines.run": _FEWER,
  "pipelines.train": _FEWER,
  "pipelines.compare": [
    *_FEWER,
    "--methods=fedtiny,snip",
    "--densities=0.1",
    "--seeds=0",
  ],
}
# And those of pages whose federation is large.
_SMALLER = {"docs/privacy.md": ["--synthetic_clients=200", "--clients_per_round=20"]}
# Targets of make by what they run; others do what `.ci/run` does anyway.
_TARGETS = {
  "run": "python -m pipelines.run --flagfile=pipelines/presets/digits.flags "
  "--output_dir=runs/digits",
  "doctor": "python -m pipelines.doctor",
}


def _blocks():
  return [
    block
    for block in snippets.blocks()
    if block.language in ("sh", "python")
    and not block.marker
    and block.page not in snippets.ELSEWHERE
  ]


_PAGES = sorted({block.page for block in _blocks()})


def _argv(command):
  """Returns what to start for a command, or nothing where `.ci/run` does it."""
  found = snippets.words(command)
  if found[0] == "make":
    target = _TARGETS.get(found[1])
    return _argv(target) if target else []
  assert found[:2] == ["python", "-m"], command
  return [sys.executable, *found[1:], *_SHORTER.get(found[2], [])]


def _start(argv, place):
  done = subprocess.run(
    argv,
    cwd=place,
    capture_output=True,
    text=True,
    stdin=subprocess.DEVNULL,
    check=False,
  )
  assert done.returncode == 0, f"{shlex.join(argv)}\n{done.stdout}\n{done.stderr}"
  return done.stdout


@pytest.fixture(name="place", scope="module")
def fixture_place(tmp_path_factory):
  """A folder that looks like the checkout, with the quick start's run in it."""
  place = tmp_path_factory.mktemp("checkout")
  for path in snippets.ROOT.iterdir():
    if path.name not in ("runs", "build", ".git"):
      (place / path.name).symlink_to(path)
  _start(_argv("make run"), place)
  return place


@pytest.mark.parametrize("page", _PAGES)
def test_a_page_runs(page, place):
  for block in _blocks():
    if block.page != page:
      continue
    if block.language == "python":
      _start([sys.executable, "-c", block.text], place)
      continue
    for command in snippets.lines_of(block.text):
      argv = _argv(command)
      if argv:
        _start([*argv, *_SMALLER.get(page, [])], place)


def test_every_page_with_commands_is_run():
  assert {"README.md", "docs/quick_start.md", "docs/android.md"} <= set(_PAGES)
  assert _argv("make run")[-1] == _FEWER[-1]
  assert _argv("make test") == []
