"""Where all randomness comes from: the run's seed, a purpose, and numbers.

The numbers are, for instance, a round and a client. Nothing uses global state.
"""

import zlib

import numpy as np

from fedtiny_tff.arrays import Array


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
  """Returns a NumPy generator for one purpose.

  Args:
    seed: Seed of the run.
    purpose: Keeps draws for different ends independent of one another.
    *numbers: For instance round and client.
  """
  # Their number belongs to it, because NumPy pads entropy with zeros.
  entropy = [seed, zlib.crc32(purpose.encode()), len(numbers), *numbers]
  return np.random.default_rng(np.random.SeedSequence(entropy))


def stateless(seed: int) -> Array:
  """Returns int32 [2], what seeds of TensorFlow's stateless operations start from.

  Args:
    seed: Seed of the run, from 0 to 2^62.
  """
  return np.array([seed & 0x7FFFFFFF, seed >> 31], np.int64).astype(np.int32)
