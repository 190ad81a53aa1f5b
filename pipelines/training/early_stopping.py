"""`--early_stopping`: whether a run is over before its last round.

Decided from the rows of `metrics.csv` alone, so that a continued run stops at the same
round. What counts is the held-out loss at the rounds of `--eval_every_rounds`; the test
split is never looked at. Rounds before the mask's last adjustment do not count: their
losses are those of another mask.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from fedtiny_tff.sparsity import schedules


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
  """When to stop.

  Attributes:
    patience: Rounds without a better held-out loss; 0 never stops.
    first_round: The first whose loss counts.
  """

  patience: int
  first_round: int = 0

  def best_round(self, rows: Sequence[Mapping[str, Any]]) -> Optional[int]:
    """Returns the first round of least held-out loss among those that count.

    What was not measured, and what is not finite, is no loss.
    """
    counted = [
      (row["eval_loss"], row["round"])
      for row in rows[self.first_round :]
      if row["eval_loss"] != "" and math.isfinite(row["eval_loss"])
    ]
    return min(counted)[1] if counted else None

  def is_due(self, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tells whether the rounds end with the last of these rows."""
    if not self.patience or not rows or rows[-1]["eval_loss"] == "":
      return False
    best = self.best_round(rows)
    return best is not None and rows[-1]["round"] - best >= self.patience


def after_adjustments(
  patience: int, events: Sequence[schedules.AdjustmentEvent]
) -> EarlyStopping:
  """Returns when to stop a run with these adjustments of the mask."""
  return EarlyStopping(patience, max((e.round_index for e in events), default=0))


def summary(
  rows: Sequence[Mapping[str, Any]], planned: int, rule: EarlyStopping
) -> dict[str, Any]:
  """Returns the `rounds` part of `report.json`.

  Args:
    rows: Of the pruning run.
    planned: `--rounds`.
    rule: When it was to stop.
  """
  return {
    "planned": planned,
    "run": len(rows),
    "stopped_early": len(rows) < planned,
    "best_round": rule.best_round(rows),
  }
