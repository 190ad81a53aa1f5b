"""Secure aggregation: floats as integers whose sum over all clients fits a word.

Values are cut towards zero, so that no vector becomes longer by it; the sensitivity
that differential privacy counts on holds.
"""

import dataclasses

import tensorflow as tf

from fedtiny_tff.errors import InputError

# Fewer steps than this on either side of zero keep nothing of an update.
_LEAST_STEPS = 32

NONE = "none"
BITWIDTH = "bitwidth"
MODULAR = "modular"
MODES = (NONE, BITWIDTH, MODULAR)
DENSE = "dense"
HASHED = "hashed"
VOTES = (DENSE, HASHED)
# How far a weight, or a normalised batch-norm statistic, may move in a round.
MODEL_LIMIT = 16.0
# Of counts and of losses added up over a client's examples.
SUM_LIMIT = 2.0**30
_SUM_BITS = 60
_BITS = (8, 48)


@dataclasses.dataclass(frozen=True)
class FixedPoint:
  """A grid of numbers.

  Attributes:
    limit: Largest magnitude; larger values are cut to it.
    bits: Of the word that holds the sum.
    clients: Most clients whose values are added.
  """

  limit: float
  bits: int
  clients: int

  def __post_init__(self) -> None:
    """Refuses fewer steps than a sum needs with an InputError."""
    if self.largest < _LEAST_STEPS:
      raise InputError(
        f"--secure_bits={self.bits} leave {max(self.largest, 0)} steps on either side "
        f"of zero to each of {self.clients} clients, needed are {_LEAST_STEPS}; raise "
        "it, or lower --clients_per_round"
      )

  @property
  def largest(self) -> int:
    """Largest integer that a client sends."""
    largest_sum: int = 2 ** (self.bits - 1) - 1
    return largest_sum // self.clients

  @property
  def step(self) -> float:
    """Distance of neighbouring numbers."""
    return self.limit / self.largest

  def encode(self, values: tf.Tensor) -> tf.Tensor:
    """Turns floats into int64 in [-largest, largest]."""
    cut = tf.clip_by_value(tf.cast(values, tf.float64), -self.limit, self.limit)
    steps = cut / self.step
    return tf.cast(tf.sign(steps) * tf.floor(tf.abs(steps)), tf.int64)

  def decode(self, summed: tf.Tensor) -> tf.Tensor:
    """Turns a sum of such integers into float32."""
    return tf.cast(tf.cast(summed, tf.float64) * self.step, tf.float32)


@dataclasses.dataclass(frozen=True)
class SecureSums:
  """How reports are added up securely.

  Attributes:
    mode: `BITWIDTH` or `MODULAR`, which of TFF's sums is used.
    bits: Of the word that carries a value of a model, and its sum.
    clients: Most clients of a round.
    largest_examples: Most examples of a client; weights are shares of it.
    vote_buckets: Of each row of a sketch of votes; 0 for votes of full length.
    seed: Of the sketches.
  """

  mode: str
  bits: int
  clients: int
  largest_examples: int
  vote_buckets: int = 0
  seed: int = 0

  def __post_init__(self) -> None:
    """Refuses unknown modes and impossible bits with an InputError."""
    if self.mode not in (BITWIDTH, MODULAR):
      raise InputError(
        f"--secure_aggregation must be one of {', '.join(MODES)}, got {self.mode!r}"
      )
    if not _BITS[0] <= self.bits <= _BITS[1]:
      raise InputError(
        f"--secure_bits must be in {_BITS[0]} to {_BITS[1]}, got {self.bits}"
      )
    _ = self.grid(MODEL_LIMIT), self.wide_grid

  def grid(self, limit: float) -> FixedPoint:
    """Returns the numbers that values up to a limit are sent as."""
    return FixedPoint(limit, self.bits, self.clients)

  @property
  def wide_grid(self) -> FixedPoint:
    """The numbers that counts and losses are sent as."""
    return FixedPoint(SUM_LIMIT, _SUM_BITS, self.clients)

  def values_bytes(self, values: int) -> int:
    """Returns what so many values of a model weigh on their way."""
    return -(-values * self.bits // 8)

  @staticmethod
  def sums_bytes(sums: int) -> int:
    """Returns what so many counts or losses weigh on their way."""
    return -(-sums * _SUM_BITS // 8)
