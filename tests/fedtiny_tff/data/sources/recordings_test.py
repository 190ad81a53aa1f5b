"""WAV files: every kind of number, what is refused, and damage."""

import contextlib
import struct
import threading
import warnings
from concurrent import futures

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from fedtiny_tff.data.sources import recordings
from tests.fedtiny_tff.data.sources import wave_files


def _read(tmp_path, content, rate=16_000):
  path = tmp_path / "a.wav"
  path.write_bytes(content)
  signal = recordings.read(str(path), rate)
  assert signal.dtype == np.float32
  assert recordings.length(str(path), rate) == len(signal)
  return signal.tolist()


def test_each_kind_of_number(tmp_path):
  sixteen = np.array([-32768, 0, 16384], np.int16)
  assert _read(tmp_path, wave_files.wave(sixteen)) == [-1.0, 0.0, 0.5]
  eight = np.array([0, 128, 192], np.uint8)
  assert _read(tmp_path, wave_files.wave(eight, bits=8)) == [-1.0, 0.0, 0.5]
  # -2^23, 1 and 2^22, the lowest byte first.
  packed = b"\x00\x00\x80" + b"\x01\x00\x00" + b"\x00\x00\x40"
  assert _read(tmp_path, wave_files.wave(packed, bits=24)) == [-1.0, 2.0**-23, 0.5]
  longer = np.array([-(2**31), 2**30], np.int32)
  assert _read(tmp_path, wave_files.wave(longer, bits=32)) == [-1.0, 0.5]
  floats = np.array([-1.0, 0.25, 1.0], np.float32)
  for bits in (32, 64):
    content = wave_files.wave(
      floats.astype(f"<f{bits // 8}"), of_format=wave_files.FLOAT, bits=bits
    )
    assert _read(tmp_path, content) == [-1.0, 0.25, 1.0]


def test_notes_of_tools_are_passed_over(tmp_path, recwarn):
  note = (
    b"LIST" + struct.pack("<I", 4) + b"INFO" + b"odd " + struct.pack("<I", 3) + b"abc\0"
  )
  content = wave_files.wave(np.array([16384], np.int16), before=note)
  assert _read(tmp_path, content) == [0.5]
  assert not recwarn.list


def test_threads_leave_the_filters_of_warnings_alone(tmp_path, monkeypatch):
  """Each thread waits for the other one while the filters are its own, or gives up."""
  path = tmp_path / "a.wav"
  path.write_bytes(wave_files.wave(np.array([16384], np.int16)))
  both = threading.Barrier(2)
  read = wavfile.read

  def slow_read(content):
    with contextlib.suppress(threading.BrokenBarrierError):
      both.wait(timeout=0.2)
    return read(content)

  monkeypatch.setattr(wavfile, "read", slow_read)
  before = list(warnings.filters)
  with futures.ThreadPoolExecutor(2) as pool:
    lengths = pool.map(recordings.length, [str(path)] * 2, [16_000] * 2)
    assert list(lengths) == [1, 1]
  # Nobody was there to wait for.
  assert both.broken
  assert warnings.filters == before


def test_sizes_that_writers_get_wrong(tmp_path):
  content = bytearray(wave_files.wave(np.array([16384, 0], np.int16)))
  # The header counted as well.
  content[4:8] = struct.pack("<I", len(content))
  assert _read(tmp_path, bytes(content)) == [0.5, 0.0]
  # Written into a pipe, the data's size unknown, too.
  content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFFFF)
  assert _read(tmp_path, bytes(content)) == [0.5, 0.0]


def test_one_length():
  signal = np.array([0.1, 0.2, 0.3], np.float32)
  assert recordings.fitted(signal, 2).tolist() == signal[:2].tolist()
  assert recordings.fitted(signal, 3).tolist() == signal.tolist()
  assert recordings.fitted(signal, 5).tolist() == [*signal.tolist(), 0.0, 0.0]


_ONE = np.array([1], np.int16)
_SHORT = wave_files.wave(np.arange(100, dtype=np.int16))


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "is damaged, or no WAV file of PCM or floats"),
    (b"ID3\x03 no sound", "is damaged, or no WAV file"),
    (
      _SHORT[:-50],
      "is cut off: has 194 of the 244 bytes that its header says; copy or",
    ),
    (_SHORT[:6], "is cut off"),
    (wave_files.wave(_ONE[:0]), "has no sound in it; record it again"),
    (wave_files.wave(_ONE, 8000), "has 8000 samples a second, not 16000; bring all to"),
    (
      wave_files.wave(np.zeros(4, np.int16), channels=2),
      "has 2 channels; save it with one",
    ),
    # A compression: GSM.
    (
      wave_files.wave(_ONE, of_format=49),
      "is damaged, or no WAV file of PCM or floats",
    ),
    (
      wave_files.wave(
        np.array([0, np.nan], np.float32), of_format=wave_files.FLOAT, bits=32
      ),
      r"sample 1 is nan, beyond \[-1, 1\]",
    ),
    (
      wave_files.wave(
        np.array([3, 32767], np.float32), of_format=wave_files.FLOAT, bits=32
      ),
      r"sample 0 is 3, beyond \[-1, 1\]; save it with values",
    ),
  ],
)
def test_what_is_refused(tmp_path, content, reason):
  with pytest.raises(recordings.UnusableRecording, match=reason) as caught:
    _read(tmp_path, content)
  assert len(str(caught.value).splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
  with pytest.raises(
    recordings.UnusableRecording, match="cannot be read: No such file"
  ):
    recordings.read(str(tmp_path / "none.wav"), 16_000)
  monkeypatch.setattr(recordings, "_MOST_BYTES", 10)
  with pytest.raises(
    recordings.UnusableRecording, match="has 46 bytes, more than 10; cut"
  ):
    _read(tmp_path, wave_files.wave(_ONE))


@settings(max_examples=300, deadline=None)
@given(
  st.integers(0, 60),
  st.binary(min_size=1, max_size=6),
  st.integers(0, 244),
  st.booleans(),
)
def test_damage_is_refused_or_read(tmp_path_factory, at, garbage, end, cut):
  """Whatever is in the header, there is a signal or a reason."""
  content = bytearray(_SHORT)
  content[at : at + len(garbage)] = garbage
  path = tmp_path_factory.getbasetemp() / "damaged.wav"
  path.write_bytes(bytes(content[:end]) if cut else bytes(content))
  try:
    signal = recordings.read(str(path), 16_000)
  except recordings.UnusableRecording as error:
    assert str(error)
  else:
    assert signal.ndim == 1
    assert np.abs(signal).max() <= 1.0
