"""Client optimisers: one dict from name to a builder of Keras optimisers."""

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Which optimiser, and its constants.

  Attributes:
    name: Key of `OPTIMIZERS`.
    learning_rate: Step size, positive.
    momentum: For SGD, in [0, 1).
    weight_decay: Decoupled decay per step, times the learning rate; at least 0.
  """

  name: str = "sgd"
  learning_rate: float = 0.05
  momentum: float = 0.9
  weight_decay: float = 0.0

  def __post_init__(self) -> None:
    if self.name not in OPTIMIZERS:
      raise ValueError(
        f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.name!r}"
      )
    if not 0.0 < self.learning_rate < math.inf:
      raise ValueError(f"learning rate must be positive, got {self.learning_rate}")
    if not 0.0 <= self.momentum < 1.0:
      raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
    if not self.weight_decay >= 0.0:
      raise ValueError(f"weight decay must be at least 0, got {self.weight_decay}")


def _sgd(config: OptimizerConfig) -> tf.keras.optimizers.Optimizer:
  return tf.keras.optimizers.SGD(
    config.learning_rate,
    momentum=config.momentum,
    weight_decay=config.weight_decay or None,
    jit_compile=False,
  )


def _adam(config: OptimizerConfig) -> tf.keras.optimizers.Optimizer:
  return tf.keras.optimizers.Adam(
    config.learning_rate, weight_decay=config.weight_decay or None, jit_compile=False
  )


OPTIMIZERS: dict[
  str, Callable[[OptimizerConfig], tf.keras.optimizers.Optimizer]
] = {"sgd": _sgd, "adam": _adam}


def build_optimizer(config: OptimizerConfig) -> tf.keras.optimizers.Optimizer:
  """Makes a Keras optimiser; its state lives in the current graph."""
  return OPTIMIZERS[config.name](config)
