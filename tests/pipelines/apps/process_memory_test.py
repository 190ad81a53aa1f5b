"""Memory and CPU time are those of the process and everything it started."""

import subprocess
import sys
import types

import psutil
import pytest

from pipelines.apps import process_memory


def _process(rss, children=(), gone=False):
  def figure(**values):
    if gone:
      raise psutil.NoSuchProcess(1)
    return types.SimpleNamespace(**values)

  return types.SimpleNamespace(
    memory_info=lambda: figure(rss=rss),
    cpu_times=lambda: figure(user=rss / 1e6, system=0.25, children_user=100.0),
    children=lambda recursive: list(children) if recursive else [],
  )


@pytest.mark.parametrize(
  ("children", "expected", "cpu_seconds"),
  [
    ([], 1.5, 1.75),
    ([_process(2_000_000), _process(500_000)], 4.0, 4.75),
    # A child may end while we look.
    ([_process(2_000_000, gone=True), _process(500_000)], 2.0, 2.5),
  ],
)
def test_children_are_counted(monkeypatch, children, expected, cpu_seconds):
  monkeypatch.setattr(psutil, "Process", lambda: _process(1_500_000, children))
  family = process_memory.ProcessFamily()
  assert family.look() == (expected, cpu_seconds)
  assert family.cpu_seconds() == cpu_seconds


def test_only_a_look_finds_new_children(monkeypatch):
  children: list[types.SimpleNamespace] = []
  monkeypatch.setattr(psutil, "Process", lambda: _process(1_000_000, children))
  family = process_memory.ProcessFamily()
  children.append(_process(500_000))
  assert family.cpu_seconds() == 1.25
  assert family.look() == (1.5, 2.0)
  assert family.cpu_seconds() == 2.0


def test_a_real_child_is_counted():
  code = "x = bytearray(200_000_000); print('ready', flush=True); input()"
  with subprocess.Popen(
    [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as child:
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    own = psutil.Process().memory_info().rss / 1e6
    total = process_memory.ProcessFamily().look().rss_mb
    child.communicate(b"\n")
  assert total - own > 190
