"""A folder is one process's at a time, however that process ends."""

import errno
import logging
import signal
import subprocess
import sys

import pytest

from fedtiny_tff.errors import InputError
from pipelines.apps import folder_lock

_HOLD = """
import pathlib, sys
from pipelines.apps.folder_lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]), "output_dir")
print("held", flush=True)
sys.stdin.read()
"""


def _holding(folder):
  process = subprocess.Popen(
    [sys.executable, "-c", _HOLD, str(folder)],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
  )  # fmt: skip
  assert process.stdout is not None
  assert process.stdout.readline() == "held\n"
  return process


def test_a_second_process_is_told_who_holds_it(tmp_path):
  with _holding(tmp_path) as process:
    with pytest.raises(InputError) as refused:
      folder_lock.FolderLock(tmp_path, "run_dir")
    process.send_signal(signal.SIGKILL)
  assert str(refused.value) == (
    f"--run_dir={tmp_path}: process {process.pid} works in it; wait for its end, or name "
    "another folder"
  )
  # The killed process holds nothing any more, and left nothing.
  folder_lock.FolderLock(tmp_path, "run_dir").release()
  assert list(tmp_path.iterdir()) == []


def test_others_are_let_in_again(tmp_path):
  first = folder_lock.FolderLock(tmp_path, "output_dir")
  with pytest.raises(InputError, match="works in it"):
    folder_lock.FolderLock(tmp_path, "output_dir")
  first.release()
  first.release()
  second = folder_lock.FolderLock(tmp_path, "output_dir")
  with pytest.raises(InputError, match="works in it"):
    folder_lock.FolderLock(tmp_path, "output_dir")
  del second
  folder_lock.FolderLock(tmp_path, "output_dir").release()


def test_a_file_is_held_like_a_folder(tmp_path):
  path = tmp_path / "file"
  path.touch()
  held = folder_lock.FolderLock(path, "data")
  with pytest.raises(InputError, match=r"works with it; .* name another file"):
    folder_lock.FolderLock(path, "data")
  held.release()
  folder_lock.FolderLock(path, "data").release()


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog):
  def refuse(*unused):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)
  with caplog.at_level(logging.WARNING):
    folder_lock.FolderLock(tmp_path, "output_dir").release()
  assert f"{tmp_path} cannot be locked (No locks available)" in caplog.text
