"""Memory is that of the process and everything it started."""

import subprocess
import sys
import types

import psutil
import pytest

from pipelines import process_memory


def _process(rss, children=(), gone=False):
  def memory_info():
    if gone:
      raise psutil.NoSuchProcess(1)
    return types.SimpleNamespace(rss=rss)

  return types.SimpleNamespace(
    memory_info=memory_info, children=lambda recursive: list(children) if recursive else []
  )


@pytest.mark.parametrize(
  ("children", "expected"),
  [
    ([], 1.5),
    ([_process(2_000_000), _process(500_000)], 4.0),
    # A child may end while we look.
    ([_process(2_000_000, gone=True), _process(500_000)], 2.0),
  ],
)
def test_children_are_counted(monkeypatch, children, expected):
  monkeypatch.setattr(psutil, "Process", lambda: _process(1_500_000, children))
  assert process_memory.rss_mb() == expected


def test_a_real_child_is_counted():
  code = "x = bytearray(200_000_000); print('ready', flush=True); input()"
  with subprocess.Popen(
    [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as child:
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    own = psutil.Process().memory_info().rss / 1e6
    total = process_memory.rss_mb()
    child.communicate(b"\n")
  assert total - own > 190
