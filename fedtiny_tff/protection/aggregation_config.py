"""The ways in which a round puts its clients' reports together.

`mean` weighs clients by their examples. `robust` does so after TFF's zeroing of updates
of outlandish size and its clipping of long ones, both by norms learnt over the rounds;
votes count with Euclidean norm 1 each. `trimmed_mean` and `median` take what most
clients agree on, coordinate by coordinate (`fedtiny_tff.protection.robust`), of models and votes
alike; the server then needs memory for all reports of a round.

A mean may be made private (`fedtiny_tff.protection.privacy`), by secure sums
(`fedtiny_tff.protection.secure_config`), or both.
"""

import dataclasses
from typing import Optional

from fedtiny_tff.errors import InputError
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.robust import MEDIAN_SHARE
from fedtiny_tff.protection.secure_config import SecureSums

MEAN = "mean"
ROBUST = "robust"
TRIMMED_MEAN = "trimmed_mean"
MEDIAN = "median"
AGGREGATIONS = (MEAN, ROBUST, TRIMMED_MEAN, MEDIAN)
# Reports that a server is to hold side by side.
_MOST_SLOTS = 1000


@dataclasses.dataclass(frozen=True)
class Aggregation:
  """How reports are put together.

  Attributes:
    name: One of `AGGREGATIONS`.
    trim_share: Of the clients, left out on either side by `trimmed_mean`; in [0, 0.5).
    slots: Most clients of a round; only where reports are held side by side.
    privacy: How reports are made private; None for not at all.
    secure: How they are added up unseen; None for in the open.
  """

  name: str = MEAN
  trim_share: float = 0.2
  slots: int = 0
  privacy: Optional[Privacy] = None
  secure: Optional[SecureSums] = None

  def __post_init__(self) -> None:
    """Refuses unknown names and shares with an InputError."""
    if self.name not in AGGREGATIONS:
      raise InputError(
        f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {self.name!r}"
      )
    if not 0.0 <= self.trim_share < MEDIAN_SHARE:
      raise InputError(f"trim_share must be in [0, 0.5), got {self.trim_share:g}")
    if self.is_stacked and not 1 <= self.slots <= _MOST_SLOTS:
      raise InputError(
        f"aggregation {self.name} holds all reports of a round side by side: of 1 to "
        f"{_MOST_SLOTS} clients, not {self.slots}; set slots, or --clients_per_round, to "
        "so many"
      )
    if self.hides_reports and self.name != MEAN:
      raise InputError(
        f"aggregation {self.name} looks at reports one by one, which neither "
        "differential privacy nor secure aggregation lets it do; take mean"
      )

  @property
  def is_stacked(self) -> bool:
    """Whether reports are held side by side."""
    return self.name in (TRIMMED_MEAN, MEDIAN)

  @property
  def hides_reports(self) -> bool:
    """Whether the server learns sums only, or private ones."""
    return self.privacy is not None or self.secure is not None

  def of_scores(self, clients: int) -> "Aggregation":
    """Returns how clients' scores of candidates, and what these rest on, become one.

    Against lies about few numbers nothing is better than to leave out the extremes,
    whatever the models' way.

    Args:
      clients: Most that score.

    Raises:
      InputError: When they are more than a server can hold side by side, or than was
        said.
    """
    if self.secure is not None and clients > self.secure.clients:
      raise InputError(
        f"{clients} clients score candidates, secure sums have room for "
        f"{self.secure.clients}; give fewer, or raise clients of SecureSums"
      )
    if self.name == MEAN:
      return self
    if self.is_stacked and clients > self.slots:
      raise InputError(
        f"{clients} clients score candidates, aggregation {self.name} holds {self.slots} "
        "side by side; give fewer, or raise slots of the Aggregation"
      )
    if clients > _MOST_SLOTS:
      raise InputError(
        f"aggregation {self.name} holds all scores of candidates side by side: of at most "
        f"{_MOST_SLOTS} clients, not {clients}; let fewer score, by --clients_per_round "
        "or fewer datasets"
      )
    name = self.name if self.is_stacked else TRIMMED_MEAN
    return dataclasses.replace(self, name=name, slots=clients)

  @property
  def share(self) -> float:
    """What of the clients is left out on either side where values are stacked."""
    return MEDIAN_SHARE if self.name == MEDIAN else self.trim_share


WEIGHTED_MEAN = Aggregation()
