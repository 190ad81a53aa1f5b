"""Masks as small PNG images: the denser, the more opaque."""

import struct
import zlib

import numpy as np

_LEVELS = 15
# Seen on white and on black alike.
_COLOUR = (46, 134, 214)


def as_tiles(mask: np.ndarray) -> np.ndarray:
  """Returns a mask as a matrix of kernels, bool [inputs·height, outputs·width].

  Args:
    mask: bool, inputs and outputs last, as Keras keeps kernels.
  """
  if mask.ndim > 4:
    return as_matrix(mask)
  kernel = (*(1,) * (4 - mask.ndim), *mask.shape)
  height, width, inputs, outputs = kernel
  tiles = mask.reshape(kernel).transpose(2, 0, 3, 1)
  return tiles.reshape(inputs * height, outputs * width)


def as_matrix(mask: np.ndarray) -> np.ndarray:
  """Returns a kernel's mask with a column per output, bool [inputs, outputs].

  Args:
    mask: bool, outputs last, as Keras keeps kernels.
  """
  return mask.reshape(-1, mask.shape[-1]) if mask.ndim > 1 else mask.reshape(-1, 1)


def shares(matrix: np.ndarray, most: int) -> np.ndarray:
  """Returns shares of True in parts of a matrix, no more than `most` either way."""
  result = matrix.astype(np.float64)
  for axis in (0, 1):
    length = result.shape[axis]
    parts = min(length, most)
    starts = np.arange(parts) * length // parts
    counts = np.diff(np.append(starts, length))
    summed = np.add.reduceat(result, starts, axis=axis)
    result = summed / (counts[:, None] if axis == 0 else counts[None, :])
  return result


def png(values: np.ndarray) -> bytes:
  """Returns an image; the file's bytes depend on the values alone.

  Args:
    values: float64 [height, width] in [0, 1]; 0 is transparent.
  """
  # Of few shares, as of a bit, all that is not 0 is to be seen.
  levels = np.where(values > 0, np.maximum(np.round(values * _LEVELS), 1), 0).astype(
    np.uint8
  )
  height, width = levels.shape
  if width % 2:
    levels = np.pad(levels, ((0, 0), (0, 1)))
  packed = (levels[:, ::2] << 4) | levels[:, 1::2]
  rows = np.pad(packed, ((0, 0), (1, 0)))
  return b"".join(
    (
      b"\x89PNG\r\n\x1a\n",
      _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)),
      _chunk(b"PLTE", bytes(_COLOUR) * (_LEVELS + 1)),
      _chunk(
        b"tRNS", bytes(round(255 * level / _LEVELS) for level in range(_LEVELS + 1))
      ),
      _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
      _chunk(b"IEND", b""),
    )
  )


def _chunk(kind: bytes, content: bytes) -> bytes:
  checksum = zlib.crc32(kind + content)
  return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
