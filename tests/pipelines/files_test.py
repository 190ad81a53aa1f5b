"""Files and folders are whole or as before, also when writing fails."""

import os
import stat

import pytest

from fedtiny_tff.errors import InputError
from pipelines import files
from tests.pipelines import support


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


def test_a_leftover_link_is_removed_but_not_its_target(tmp_path):
  target = tmp_path / "target"
  target.mkdir()
  (target / "kept").write_bytes(b"")
  (tmp_path / ".x.abcd1234.partial").symlink_to(target)
  files.remove_leftovers(tmp_path)
  assert list(support.snapshot(tmp_path)) == ["target", "target/kept"]


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
