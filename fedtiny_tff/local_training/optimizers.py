"""Client optimisers: one dict from name to a builder of Keras optimisers."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from fedtiny_tff import field_types


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Which optimiser, and its constants.

  Attributes:
    name: Key of `OPTIMIZERS`.
    learning_rate: Step size, positive.
    momentum: For SGD, in [0, 1).
    weight_decay: At least 0. For `sgd` and `adam` it is added to the gradient, times
      the weight (L2, as in the authors' code); for `adamw` it is decoupled.
    clip_norm: Largest global norm of a step's gradient; 0 leaves it as it is.
  """

  name: str = "sgd"
  learning_rate: float = 0.05
  momentum: float = 0.9
  weight_decay: float = 0.0
  clip_norm: float = 0.0

  def __post_init__(self) -> None:
    """Refuses unknown names and impossible rates with a ValueError."""
    field_types.check(self)
    if self.name not in OPTIMIZERS:
      raise ValueError(
        f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.name!r}"
      )
    if not 0.0 < self.learning_rate < math.inf:
      raise ValueError(f"learning rate must be positive, got {self.learning_rate}")
    if not 0.0 <= self.momentum < 1.0:
      raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
    for name in ("weight_decay", "clip_norm"):
      if not 0.0 <= getattr(self, name) < math.inf:
        raise ValueError(
          f"{name.replace('_', ' ')} must be at least 0, got {getattr(self, name)}"
        )

  @property
  def l2_penalty(self) -> float:
    """Factor of the weights that is added to their gradients."""
    return 0.0 if self.name == "adamw" else self.weight_decay


def _sgd(config: OptimizerConfig) -> tf.keras.optimizers.Optimizer:
  return tf.keras.optimizers.SGD(
    config.learning_rate, momentum=config.momentum, jit_compile=False
  )


def _adam(config: OptimizerConfig) -> tf.keras.optimizers.Optimizer:
  return tf.keras.optimizers.Adam(config.learning_rate, jit_compile=False)


def _adamw(config: OptimizerConfig) -> tf.keras.optimizers.Optimizer:
  return tf.keras.optimizers.AdamW(
    config.learning_rate, weight_decay=config.weight_decay, jit_compile=False
  )


OPTIMIZERS: dict[str, Callable[[OptimizerConfig], tf.keras.optimizers.Optimizer]] = {
  "sgd": _sgd,
  "adam": _adam,
  "adamw": _adamw,
}


def build_optimizer(config: OptimizerConfig) -> tf.keras.optimizers.Optimizer:
  """Makes a Keras optimiser; its state lives in the current graph.

  Clipping and L2 belong to the gradients and are not in it: see
  `prepare_gradients`.
  """
  return OPTIMIZERS[config.name](config)


def prepare_gradients(
  config: OptimizerConfig,
  gradients: Sequence[tf.Tensor],
  variables: Sequence[tf.Variable],
) -> list[tf.Tensor]:
  """Clips gradients by their global norm, then adds the L2 penalty's.

  Args:
    config: Constants.
    gradients: Already masked, one per variable.
    variables: Already masked.
  """
  prepared = list(gradients)
  if config.clip_norm:
    prepared, _ = tf.clip_by_global_norm(prepared, config.clip_norm)
  if config.l2_penalty:
    prepared = [
      g + config.l2_penalty * v for g, v in zip(prepared, variables, strict=True)
    ]
  return prepared
