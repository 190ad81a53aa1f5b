"""Whether quantisation costs too much, which model is better, and how that is told."""

import dataclasses
import math
from typing import Any, NamedTuple, Optional

import tensorflow as tf

# A point of accuracy; where there are no classes, a twentieth of the loss.
LARGEST_DROP = 0.01
LARGEST_RISE = 0.05
# So that 0.99 - 0.98 is a point and not more.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Quantisation:
  """What int8 files are made from.

  Attributes:
    model: For `convert_quantised`; None where the float model is quantised afterwards.
    facts: `quantisation` of `report.json`.
  """

  model: Optional[tf.keras.Model]
  facts: dict[str, Any]


class Figures(NamedTuple):
  """How good a model is on the examples that decide.

  Attributes:
    accuracy: Share of the classes hit; None where there are no classes.
    loss: Mean over the examples.
  """

  accuracy: Optional[float]
  loss: float


def drop(before: Figures, after: Figures) -> float:
  """Returns what is lost: accuracy, or where there is none, the loss's relative rise."""
  if before.accuracy is not None and after.accuracy is not None:
    return before.accuracy - after.accuracy
  if before.loss == 0:
    return 0.0 if after.loss == 0 else math.inf
  return after.loss / before.loss - 1.0


def is_too_much(before: Figures, after: Figures) -> bool:
  """Whether more is lost than may be; a figure that is no number is too much."""
  limit = LARGEST_RISE if before.accuracy is None else LARGEST_DROP
  return not drop(before, after) <= limit + _ROUNDING


def is_better(after: Figures, before: Figures) -> bool:
  """Whether the first is better; the loss decides between equal accuracies."""
  if math.isnan(after.loss) or math.isnan(before.loss):
    return not math.isnan(after.loss)
  return (after.accuracy or 0.0, -after.loss) > (before.accuracy or 0.0, -before.loss)


def facts_without_figures(mode: str, reason: str) -> dict[str, Any]:
  """Returns the report's entry when nothing was measured."""
  return {
    "mode": mode,
    "chosen": "post_training",
    "reason": reason,
    "figure": None,
    "float": None,
    "post_training": None,
    "quantisation_aware": None,
    "clients": 0,
    "examples": 0,
    "rounds": 0,
    "public_examples": 0,
    "learning_rate": None,
    "bytes_up_per_client": 0,
    "bytes_down_per_client": 0,
  }


def shown(figures: Figures) -> Optional[float]:
  """Returns the accuracy, or where there is none the loss; None if it is no number."""
  value = figures.loss if figures.accuracy is None else figures.accuracy
  return round(value, 6) if math.isfinite(value) else None


def reason(figures: dict[str, Figures], examples: int, is_trained: bool) -> str:
  """Says in a sentence what was decided, and why.

  Args:
    figures: `float`, `post_training` and, where it was trained, `quantisation_aware`.
    examples: How many decide.
    is_trained: Whether the model that was trained with quantisation is taken.
  """
  if not examples:
    return "Nothing is held out, so nothing can be decided."
  before, after = figures["float"], figures["post_training"]
  lost = _loss_of(before, after)
  if "quantisation_aware" not in figures:
    return f"Post-training quantisation costs {lost}: within the limit."
  trained = figures["quantisation_aware"]
  left = _loss_of(before, trained)
  verdict = "not better and not taken"
  if is_trained:
    same = trained.accuracy is not None and trained.accuracy == after.accuracy
    verdict = "as many, with less loss" if same else "better"
  return (
    f"Post-training quantisation costs {lost}; after training with quantisation it is "
    f"{left}: {verdict}."
  )


def _loss_of(before: Figures, after: Figures) -> str:
  what = "points of accuracy" if before.accuracy is not None else "% more loss"
  return f"{100 * drop(before, after):.2f} {what}"
