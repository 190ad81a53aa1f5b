"""Whatever damaged or hostile files end in is known by its type."""

import io
import struct
import zipfile

import numpy as np
import pytest

from pipelines.apps import damage


def _npz(name):
  content = io.BytesIO()
  mask = np.random.default_rng(0).random((40, 40)) < 0.5
  np.savez_compressed(content, **{name: mask})
  return content.getvalue()


def flipped(name="mask"):
  """An archive with one other byte in what is deflated: its first."""
  content = bytearray(_npz(name))
  content[30 + sum(struct.unpack("<HH", content[26:30]))] ^= 0xFF
  return bytes(content)


def encrypted(name="mask"):
  """An archive whose member says that it has a password."""
  content = bytearray(_npz(name))
  content[6] |= 1
  content[content.index(b"PK\x01\x02") + 8] |= 1
  return bytes(content)


def of(name, member):
  """An archive of one member that NumPy did not write."""
  content = io.BytesIO()
  with zipfile.ZipFile(content, "w") as archive:
    archive.writestr(name, member)
  return content.getvalue()


def _array(header):
  return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


HUGE = b"{'descr': '|b1', 'fortran_order': False, 'shape': (%d,)}" % 2**70
ARCHIVES = {
  "flipped": flipped(),
  "encrypted": encrypted(),
  "cut": _npz("mask")[:-30],
  "empty": b"",
  "no array": of("mask", b"text"),
  "no header": of("mask.npy", _array(b"{'descr': (")),
  "huge": of("mask.npy", _array(HUGE)),
}


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_archives(content):
  with (
    pytest.raises(damage.ARCHIVE),
    np.load(io.BytesIO(content), allow_pickle=False) as archive,
  ):
    print(archive["mask"].dtype)


@pytest.mark.parametrize(
  "content",
  ["", "{", pytest.param("[" * 100_000, id="deep"), r'["\ud800"]', "9" * 9999],
)
def test_json(content):
  with pytest.raises(ValueError, match=r"line 1|deeply|surrogates|digits"):
    damage.parsed(content)


def test_json_that_is_whole():
  assert damage.parsed(r'{"ä": [1e999, "\ud83d\ude00"]}') == {"ä": [float("inf"), "😀"]}
