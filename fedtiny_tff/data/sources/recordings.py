"""One recording: a WAV file as a signal of one channel."""

import io
import pathlib
import struct
import threading
import warnings
from typing import Literal

import numpy as np
from scipy.io import wavfile

from fedtiny_tff.arrays import Array

# Minutes of sound; one example of more is a mistake.
_MOST_BYTES = 64 * 2**20
_RIFF_HEADER_BYTES = 8
_SIZE_UNKNOWN = 0xFFFFFFFF
# All that SciPy's reader ends in when a file is damaged; a test tries many.
_READER_ERRORS = (
  ValueError, EOFError, IndexError, KeyError, OverflowError, TypeError, UnboundLocalError,
  ZeroDivisionError, struct.error,
)  # fmt: skip
# Threads that set filters of warnings side by side leave them behind, or lose them.
_FILTERS = threading.Lock()


class UnusableRecording(Exception):
  """A file that is no recording, or none that can be used; says why."""


def read(path: str, sample_rate_hz: int) -> Array:
  """Reads a WAV file: PCM of 8 to 32 bits, or floats.

  Args:
    path: Where it lies.
    sample_rate_hz: Samples a second that it must have.

  Returns:
    float32 [samples] in [-1, 1]: whole numbers divided by their range's half.

  Raises:
    UnusableRecording: When it is damaged, empty, has more than one channel, another
      rate, or values that are not finite or beyond [-1, 1].
  """
  signal = _scaled(_raw(path, sample_rate_hz))
  # NaN compares as false.
  wrong = np.flatnonzero(~(np.abs(signal) <= 1.0))
  if len(wrong):
    raise UnusableRecording(
      f"sample {wrong[0]} is {signal[wrong[0]]:g}, beyond [-1, 1]; save it with values "
      "in that range, or as 16-bit PCM"
    )
  return signal


def length(path: str, sample_rate_hz: int) -> int:
  """Returns how many samples a WAV file has.

  Args:
    path: Where it lies.
    sample_rate_hz: Samples a second that it must have.

  Raises:
    UnusableRecording: As `read`, but whatever the values are.
  """
  return len(_raw(path, sample_rate_hz))


def fitted(signal: Array, samples: int) -> Array:
  """Cuts a signal at the end, or fills it up with silence.

  Args:
    signal: float32 [any].
    samples: Wanted length.

  Returns:
    float32 [samples].
  """
  cut = signal[:samples]
  return np.pad(cut, (0, samples - len(cut)))


def _raw(path: str, sample_rate_hz: int) -> Array:
  """Returns samples [n] as they are stored."""
  try:
    size = pathlib.Path(path).stat().st_size
    if size > _MOST_BYTES:
      raise UnusableRecording(
        f"has {size:,} bytes, more than {_MOST_BYTES:,}; cut it into examples"
      )
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise UnusableRecording(f"cannot be read: {error.strerror}") from error
  _refuse_cut_off(content)
  try:
    with _FILTERS, warnings.catch_warnings():
      # Of chunks that it does not know: tools add notes of their own.
      warnings.simplefilter("ignore", wavfile.WavFileWarning)
      rate, samples = wavfile.read(io.BytesIO(content))
  except _READER_ERRORS as error:
    raise UnusableRecording("is damaged, or no WAV file of PCM or floats") from error
  if samples.ndim > 1:
    raise UnusableRecording(f"has {samples.shape[1]} channels; save it with one (mono)")
  if not len(samples):
    raise UnusableRecording("has no sound in it; record it again")
  if rate != sample_rate_hz:
    raise UnusableRecording(
      f"has {rate} samples a second, not {sample_rate_hz}; bring all to one rate and name "
      "it with --sample_rate_hz"
    )
  stored: Array = samples
  return stored


def _refuse_cut_off(content: bytes) -> None:
  """Refuses a file that ends before its header says; the reader takes what is left."""
  order: Literal["big", "little"] = "big" if content.startswith(b"RIFX") else "little"
  size = int.from_bytes(content[4:_RIFF_HEADER_BYTES], order)
  said = size + _RIFF_HEADER_BYTES
  # Who writes into a pipe knows no size, and some recorders count the header as well.
  is_known = size not in (_SIZE_UNKNOWN, len(content))
  if content[:4] in (b"RIFF", b"RIFX") and is_known and said > len(content):
    raise UnusableRecording(
      f"is cut off: has {len(content):,} of the {said:,} bytes that its header says; "
      "copy or save it again"
    )


def _scaled(samples: Array) -> Array:
  """Returns samples as float32 whose range is [-1, 1]."""
  if samples.dtype == np.uint8:
    return ((samples.astype(np.float32) - 128) / 128).astype(np.float32)
  if np.issubdtype(samples.dtype, np.integer):
    # 24 bits come as the upper ones of 32.
    half = -float(np.iinfo(samples.dtype).min)
    return (samples / half).astype(np.float32)
  return samples.astype(np.float32)
