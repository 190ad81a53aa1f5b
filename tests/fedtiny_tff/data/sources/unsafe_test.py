"""Files that would run code when loaded are refused by name or content."""

import pathlib
import pickle

import numpy as np
import pytest

from fedtiny_tff.data.sources import registry, unsafe
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError


class _Trap:
  def __reduce__(self):
    return pathlib.Path.touch, (pathlib.Path("sprung"),)


@pytest.mark.parametrize(
  "name", ["a.pkl", "b.PICKLE", "data_batch_1", "inner/batches.meta"]
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_refused_and_not_loaded(tmp_path, monkeypatch, name, protocol):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / "data" / name
  path.parent.mkdir(parents=True)
  path.write_bytes(pickle.dumps(_Trap(), protocol))
  with pytest.raises(
    InputError, match=r"is a pickle: .*pipelines\.make_dataset"
  ) as error:
    unsafe.refuse_pickles(tmp_path / "data")
  assert str(path) in str(error.value)
  assert "\n" not in str(error.value)
  assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
  ("source", "place"),
  [
    *((name, "") for name in (
      "cifar10", "image_folder", "csv", "parquet", "client_tfrecord", "client_sqlite"
    )),
    *((name, "windows.pkl") for name in ("csv", "parquet", "client_sqlite")),
  ],
)  # fmt: skip
def test_sources_that_find_a_pickle_instead_say_so(tmp_path, source, place):
  (tmp_path / "windows.pkl").write_bytes(pickle.dumps([1]))
  with pytest.raises(InputError, match=r"windows\.pkl is a pickle: "):
    registry.load(source, SourceOptions(data_dir=str(tmp_path / place)))


def test_an_array_of_objects_is_refused(tmp_path):
  np.save(tmp_path / "x.npy", np.array([{}, "text"], object), allow_pickle=True)
  with pytest.raises(InputError, match=r"x\.npy is an array of Python objects: "):
    unsafe.refuse_pickles(tmp_path)


@pytest.mark.parametrize(
  "header",
  [
    "{'descr': [('a', 5)]",
    "{'descr': (",
    "  {}\n }",
    "{1: 2, 'descr': 3}",
    "{'descr': 5, 'fortran_order': False, 'shape': (1,)}",
    "{'descr': ('<f4', 5, 6), 'fortran_order': False, 'shape': (1,)}",
    "{'descr': [('a', '<f4', -1)], 'fortran_order': False, 'shape': (1,)}",
    "(" * 9_000,
    "-" * 9_000 + "1",
    "[" * 150 + "]" * 150,
    "{[]: 1}",
    "1" * 5_000,
  ],
  ids=range(12),
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_a_header_that_numpy_cannot_read_is_no_array(tmp_path, header, version):
  content = header.encode()
  size = len(content).to_bytes(2 if version == (1, 0) else 4, "little")
  (tmp_path / "x.npy").write_bytes(b"\x93NUMPY" + bytes(version) + size + content)
  unsafe.refuse_pickles(tmp_path)


def test_other_files_pass(tmp_path):
  np.save(tmp_path / "numbers.npy", np.zeros(3))
  (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00\xff")
  (tmp_path / "empty").touch()
  (tmp_path / "like_one").write_bytes(b"\x80\x04but without an end")
  # A frame of 640 bytes: its length begins like a pickle of protocol 2.
  (tmp_path / "train.tfrecord").write_bytes(b"\x80\x02" + bytes(660) + b".")
  (tmp_path / "inner").mkdir()
  (tmp_path / "inner" / "table.csv").write_text("a,b\n")
  unsafe.refuse_pickles(tmp_path)
  unsafe.refuse_pickles(tmp_path / "missing")
