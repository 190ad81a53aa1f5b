"""Clients that misbehave on purpose, to see what they can do.

Sources: sign flips, "RSA: Byzantine-Robust Stochastic Aggregation Methods", L. Li et al.,
AAAI 2019, arXiv 1811.03761; label flips, "Data Poisoning Attacks Against Federated
Learning Systems", V. Tolpegin et al., ESORICS 2020, arXiv 2007.08432. Loud random votes
are ours: what one client could do to the mask.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds

NONE = "none"
SIGN_FLIP = "sign_flip"
LABEL_FLIP = "label_flip"
RANDOM_PAIRS = "random_pairs"
ATTACKS: dict[str, str] = {
  NONE: "nothing",
  SIGN_FLIP: "send the opposite of what they learned",
  LABEL_FLIP: "learn the labels in reverse order",
  RANDOM_PAIRS: "vote for random weights, as loudly as goes",
}
# Of a float32: sums of squares over many of them are finite.
_LOUD = 1e12


@dataclasses.dataclass(frozen=True)
class Poisoning:
  """Which clients do what.

  Attributes:
    attack: Key of `ATTACKS`.
    clients: Numbers of the bad clients.
    num_classes: Of the labels.
  """

  attack: str = NONE
  clients: tuple[int, ...] = ()
  num_classes: int = 0

  def is_bad(self, client: tf.Tensor) -> tf.Tensor:
    """Whether a client is one of them, bool.

    Args:
      client: int64, its number.
    """
    if self.attack == NONE or not self.clients:
      return tf.constant(False)
    return tf.reduce_any(tf.equal(client, tf.constant(self.clients, tf.int64)))

  def decoded(
    self,
    decode: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    is_bad: tf.Tensor,
  ) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns how a client reads its records."""
    if self.attack != LABEL_FLIP:
      return decode

    def flipped(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      features, labels = decode(records)
      return features, tf.where(is_bad, self.num_classes - 1 - labels, labels)

    return flipped

  def sent(
    self, trained: tf.Tensor, received: tf.Tensor, is_bad: tf.Tensor
  ) -> tf.Tensor:
    """Returns what a client sends of what it has trained.

    Args:
      trained: float32, any shape.
      received: Where it started.
      is_bad: bool.
    """
    if self.attack != SIGN_FLIP:
      return trained
    return tf.where(is_bad, 2.0 * received - trained, trained)

  def votes(
    self, statistics: Any, seed: tf.Tensor, is_bad: tf.Tensor, positions: int
  ) -> Any:
    """Returns what a client sends for an adjustment.

    Args:
      statistics: Structure of tensors: floats are values, int32s positions.
      seed: int32 [2].
      is_bad: bool.
      positions: How many positions there are.
    """
    if self.attack != RANDOM_PAIRS:
      return statistics

    def loud(number: int, each: tf.Tensor) -> tf.Tensor:
      own = tf.random.experimental.stateless_fold_in(seed, number)
      if each.dtype == tf.int32:
        drawn = tf.random.stateless_uniform(
          each.shape, own, 0, positions, dtype=tf.int32
        )
      elif each.dtype.is_floating:
        drawn = tf.random.stateless_normal(each.shape, own, stddev=_LOUD)
      else:
        return each
      return tf.where(is_bad, drawn, each)

    flat = [
      loud(number, each) for number, each in enumerate(tf.nest.flatten(statistics))
    ]
    return tf.nest.pack_sequence_as(statistics, flat)


NOBODY = Poisoning()


def draw_clients(seed: int, population: int, share: float) -> tuple[int, ...]:
  """Draws the bad clients of a run.

  Args:
    seed: Seed of the run.
    population: All clients.
    share: Of them, rounded to the nearest number.
  """
  count = int(share * population + 0.5)
  generator = seeds.generator(seed, "byzantine")
  drawn = generator.choice(population, count, replace=False)
  return tuple(sorted(np.asarray(drawn, np.int64).tolist()))
