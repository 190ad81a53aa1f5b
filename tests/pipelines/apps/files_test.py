"""Files and folders are whole or as before, also when writing fails."""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile

import pytest

from fedtiny_tff.errors import InputError
from pipelines.apps import files
from tests.pipelines import support

_WRITER = """
import pathlib, sys
from pipelines.apps import files
with getattr(files, sys.argv[1])(pathlib.Path(sys.argv[2])) as made:
  if sys.argv[1] == "replacing":
    made.write(b"half")
  else:
    (made / "half").write_bytes(b"half")
  print("writing", flush=True)
  sys.stdin.read()
"""
_KINDS = ["replacing", "replacing_folder"]


class _Broken(BaseException):
  """Not an Exception: what Ctrl-C is."""


def test_a_file_is_written_with_its_folders(tmp_path):
  path = tmp_path / "a" / "b" / "x.txt"
  files.write_text(path, "grüß\n")
  assert path.read_bytes() == "grüß\n".encode()
  assert stat.S_IMODE(path.stat().st_mode) == 0o644
  assert os.listdir(path.parent) == ["x.txt"]


def test_a_file_is_replaced(tmp_path):
  path = tmp_path / "x"
  files.write_bytes(path, b"long old content")
  files.write_bytes(path, b"new")
  assert path.read_bytes() == b"new"


def test_a_file_does_not_exist_before_it_is_whole(tmp_path):
  path = tmp_path / "x"
  with files.replacing(path) as file:
    file.write(b"half")
    file.flush()
    assert not path.exists()
    [partial] = tmp_path.iterdir()
    assert files.is_leftover(partial)


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_write_leaves_what_was_there(tmp_path, old):
  path = tmp_path / "x"
  if old:
    path.write_bytes(old)
  before = support.snapshot(tmp_path)
  with pytest.raises(_Broken), files.replacing(path) as file:
    file.write(b"half")
    raise _Broken
  assert support.snapshot(tmp_path) == before


def test_a_failed_rename_leaves_what_was_there(tmp_path, monkeypatch):
  path = tmp_path / "x"
  path.write_bytes(b"old")

  def fail(source, destination):
    raise OSError("disk gone")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk gone"):
    files.write_bytes(path, b"new")
  assert support.snapshot(tmp_path) == {"x": b"old"}


def test_a_folder_is_written_and_replaced_as_a_whole(tmp_path):
  path = tmp_path / "made" / "folder"
  for round_ in (b"1", b"2"):
    with files.replacing_folder(path) as fresh:
      (fresh / f"only_{round_.decode()}").write_bytes(round_)
      (fresh / "sub").mkdir()
      (fresh / "sub" / "both").write_bytes(round_)
  assert support.snapshot(tmp_path) == {
    "made": None,
    "made/folder": None,
    "made/folder/only_2": b"2",
    "made/folder/sub": None,
    "made/folder/sub/both": b"2",
  }
  assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.parametrize("exists", [False, True])
def test_a_failed_folder_leaves_what_was_there(tmp_path, exists):
  path = tmp_path / "folder"
  if exists:
    path.mkdir()
    (path / "old").write_bytes(b"old")
  before = support.snapshot(tmp_path)
  with pytest.raises(_Broken), files.replacing_folder(path) as fresh:
    (fresh / "new").write_bytes(b"new")
    raise _Broken
  assert support.snapshot(tmp_path) == before


def test_leftovers_are_removed_and_nothing_else(tmp_path):
  keep = {".git/HEAD": b"ref", ".env": b"", "a/x.partial": b"", "a/.old.config": b""}
  drop = [".x.abcd1234.partial", "a/.model.abcd1234.partial/model.keras"]
  for name in [*keep, *drop]:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(keep.get(name, b""))
  files.remove_leftovers(tmp_path)
  left = {k: v for k, v in support.snapshot(tmp_path).items() if v is not None}
  assert left == keep


def test_what_a_killed_writer_leaves_is_a_leftover(tmp_path):
  """Asks the writers themselves for their names, as a kill would leave them."""
  with files.replacing(tmp_path / "x"), files.replacing_folder(tmp_path / "y"):
    found = list(tmp_path.iterdir())
    assert len(found) == 2
    assert all(files.is_leftover(path) for path in found)


@contextlib.contextmanager
def _another_process_writes(kind, path):
  """Runs a process that has begun to write, and ends well when its input ends."""
  command = [sys.executable, "-c", _WRITER, kind, str(path)]
  with subprocess.Popen(
    command, cwd=support.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as process:
    try:
      assert process.stdout and process.stdout.readline() == b"writing\n"
      yield process
    finally:
      process.kill()


def _write(kind, path):
  with getattr(files, kind)(path):
    pass


def _partial(folder):
  """Returns the one temporary file or folder of x."""
  (found,) = folder.glob(".x.????????.partial")
  return found


@pytest.mark.parametrize("kind", _KINDS)
def test_what_a_killed_writer_left_is_removed_by_the_next_and_nothing_else(
  tmp_path, kind
):
  names = [
    ".x.txt.abcd1234.partial", ".xx.abcd1234.partial", ".x.abc.partial",
    "x.abcd1234.partial", ".x.abcd1234.partial.txt", ".x.ABCD1234-.partial",
    ".x", "z/.x.abcd1234.partial",
  ]  # fmt: skip
  for name in names:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if kind == "replacing_folder":
      path.mkdir()
      path = path / "content"
    path.write_bytes(b"mine")
  before = support.snapshot(tmp_path)
  with _another_process_writes(kind, tmp_path / "x") as process:
    process.kill()
    process.wait()
    assert _partial(tmp_path).exists()
    _write(kind, tmp_path / "y")
    assert _partial(tmp_path).exists()
    _write(kind, tmp_path / "x")
  written = dict.fromkeys(("x", "y"), b"" if kind == "replacing" else None)
  assert support.snapshot(tmp_path) == before | written


@pytest.mark.parametrize("kind", _KINDS)
def test_what_a_living_process_writes_is_kept(tmp_path, kind):
  with _another_process_writes(kind, tmp_path / "x") as process:
    theirs = _partial(tmp_path)
    _write(kind, tmp_path / "x")
    files.remove_leftovers(tmp_path)
    assert _partial(tmp_path) == theirs
    process.stdin.close()
    assert process.wait() == 0
  name = "x" if kind == "replacing" else "x/half"
  assert support.snapshot(tmp_path)[name] == b"half"
  assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("kind", _KINDS)
def test_a_writer_is_not_disturbed_before_it_holds_its_lock(
  tmp_path, monkeypatch, kind
):
  """Another process may see the new file or folder and remove it, at two moments."""
  maker = {"replacing": "mkstemp", "replacing_folder": "mkdtemp"}[kind]
  make, lock = getattr(tempfile, maker), fcntl.flock
  removed = []

  def remove():
    path = _partial(tmp_path)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    removed.append(path)

  def make_and_lose(*arguments):
    made = make(*arguments)
    if len(removed) == 0:
      remove()
    return made

  def lose_and_lock(*arguments):
    if len(removed) == 1:
      remove()
    lock(*arguments)

  monkeypatch.setattr(tempfile, maker, make_and_lose)
  monkeypatch.setattr(fcntl, "flock", lose_and_lock)
  _write(kind, tmp_path / "x")
  assert len(removed) == 2
  assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
  tmp_path, monkeypatch
):
  path = tmp_path / "x"
  path.mkdir()
  (path / "old").write_bytes(b"old")
  replace = os.replace

  def fail(source, destination):
    if (source / "new").exists():
      # The old one is not up for grabs meanwhile.
      files.remove_leftovers(tmp_path)
      raise OSError("disk gone")
    replace(source, destination)

  monkeypatch.setattr(os, "replace", fail)
  monkeypatch.setattr(files, "_exchange", lambda first, second: False)
  with (
    pytest.raises(OSError, match="disk gone"),
    files.replacing_folder(path) as fresh,
  ):
    (fresh / "new").write_bytes(b"new")
  assert support.snapshot(tmp_path) == {"x": None, "x/old": b"old"}


def test_a_folder_is_there_at_any_instant_while_it_is_replaced(tmp_path, monkeypatch):
  path = tmp_path / "x"
  path.mkdir()
  other = tmp_path / "y"
  other.mkdir()
  if not files._exchange(path, other):
    pytest.skip("this file system cannot swap two names")

  def fail(source, destination):
    raise AssertionError(f"{source} is renamed, so that its name is free for a moment")

  monkeypatch.setattr(os, "replace", fail)
  with files.replacing_folder(path) as fresh:
    (fresh / "new").write_bytes(b"new")
  assert support.snapshot(tmp_path) == {"x": None, "x/new": b"new", "y": None}


def test_a_folder_is_replaced_where_names_cannot_be_swapped(tmp_path, monkeypatch):
  class _OldLibrary:
    """A C library without renameat2."""

  path = tmp_path / "x"
  path.mkdir()
  (path / "old").write_bytes(b"old")
  monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: _OldLibrary())
  with files.replacing_folder(path) as fresh:
    (fresh / "new").write_bytes(b"new")
  assert support.snapshot(tmp_path) == {"x": None, "x/new": b"new"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EXDEV, errno.EACCES])
def test_only_errors_that_a_rename_may_mend_lead_to_one(tmp_path, monkeypatch, code):
  class _Refusing:
    """A C library whose file system refuses."""

    def renameat2(self, *arguments):
      ctypes.set_errno(code)
      return -1

  monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: _Refusing())
  if code == errno.EACCES:
    with pytest.raises(PermissionError):
      files._exchange(tmp_path, tmp_path)
  else:
    assert not files._exchange(tmp_path, tmp_path)


def test_where_there_are_no_locks_nothing_is_removed(tmp_path, monkeypatch):
  def fail(*arguments):
    raise OSError("no locks available")

  (tmp_path / ".x.abcd1234.partial").write_bytes(b"")
  monkeypatch.setattr(fcntl, "flock", fail)
  _write("replacing", tmp_path / "x")
  assert sorted(support.snapshot(tmp_path)) == [".x.abcd1234.partial", "x"]


def test_a_leftover_link_is_removed_but_not_its_target(tmp_path):
  target = tmp_path / "target"
  target.mkdir()
  (target / "kept").write_bytes(b"")
  (tmp_path / ".x.abcd1234.partial").symlink_to(target)
  files.remove_leftovers(tmp_path)
  assert list(support.snapshot(tmp_path)) == ["target", "target/kept"]


@pytest.mark.parametrize("before", ["nothing", "folder", "link"])
def test_a_folder_that_is_new_or_empty_is_made(tmp_path, before):
  path = tmp_path / "x"
  if before == "folder":
    path.mkdir()
  if before == "link":
    (tmp_path / "target").mkdir()
    path.symlink_to("target")
  with files.making_folder(path, "output_dir") as fresh:
    (fresh / "new").write_bytes(b"new")
    assert not (path / "new").exists()
  assert (path / "new").read_bytes() == b"new"
  assert path.is_symlink() == (before == "link")
  assert stat.S_IMODE(path.stat().st_mode) == 0o755
  assert not [each for each in tmp_path.iterdir() if files.is_leftover(each)]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_appeared_where_a_folder_was_to_be_stays(tmp_path, kind):
  path = tmp_path / "x"
  with (
    pytest.raises(
      InputError, match=f"^--output_dir={path}: exists already; name a new"
    ),
    files.making_folder(path, "output_dir") as fresh,
  ):
    (fresh / "new").write_bytes(b"new")
    if kind == "folder":
      path.mkdir()
    (path / "own" if kind == "folder" else path).write_bytes(b"own")
    before = support.snapshot(path) if kind == "folder" else path.read_bytes()
  assert [each.name for each in tmp_path.iterdir()] == ["x"]
  after = support.snapshot(path) if kind == "folder" else path.read_bytes()
  assert after == before


def test_a_folder_is_made_and_probed(tmp_path):
  path = tmp_path / "a" / "b"
  files.make_folder(path, "output_dir")
  files.make_folder(path, "output_dir")
  assert list(path.iterdir()) == []


@pytest.mark.parametrize("place", ["{tmp}/file", "{tmp}/file/below", "/proc/below"])
def test_a_folder_that_cannot_be_made_names_the_flag(tmp_path, place):
  (tmp_path / "file").write_text("")
  path = files.pathlib.Path(place.format(tmp=tmp_path))
  with pytest.raises(InputError, match=rf"--output_dir={path}: cannot be written"):
    files.make_folder(path, "output_dir")
  assert list(support.snapshot(tmp_path)) == ["file"]


def test_links_are_followed_to_where_they_lead(tmp_path):
  folder = tmp_path / "folder"
  folder.mkdir()
  for name, target in (("out", ".."), ("in", "a"), ("loop", "loop")):
    (folder / name).symlink_to(target)
  assert files.is_inside(folder / "in", folder)
  assert files.is_inside(folder / "loop", folder)
  assert not files.is_inside(folder / "out", folder)
  assert not files.is_inside(folder / ".." / "other", folder)
