"""WAV files, byte by byte, so that readers are not tried on what they wrote."""

import struct

import numpy as np

PCM = 1
FLOAT = 3


def wave(samples, rate=16_000, *, of_format=PCM, bits=16, channels=1, before=b""):
  """Returns a file: little-endian samples, with chunks in front of them."""
  data = samples if isinstance(samples, bytes) else np.asarray(samples).tobytes()
  align = channels * bits // 8
  header = struct.pack("<HHIIHH", of_format, channels, rate, rate * align, align, bits)
  chunks = b"WAVEfmt " + struct.pack("<I", len(header)) + header + before
  chunks += b"data" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
  return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def write(path, samples, rate=16_000, **how):
  """Writes one, with the folders that lead to it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(wave(np.asarray(samples, np.int16), rate, **how))
