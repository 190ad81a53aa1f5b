"""Clients' reports as a server has them, without clients that train."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_federated as tff

from fedtiny_tff.federated import messages
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection.guards import Verdict
from fedtiny_tff.strategies import base, fedtiny
from fedtiny_tff.strategies.adjustment import Adjustment
from fedtiny_tff.tasks import Metrics
from tests.fedtiny_tff.support import floats, spec_of_sizes

ONE = tff.TensorType(np.float32)
# One layer of four weights, of which a client votes for two.
SPEC = spec_of_sizes(4)


class Sent(NamedTuple):
  """What a client reports.

  Attributes:
    values: Its active values.
    batch_norm: Its mean offset and second moment, of each channel.
    weight: Its examples.
    accepted: Whether it counts.
    statistics: What it sends for an adjustment.
  """

  values: Sequence[float]
  batch_norm: tuple[Sequence[float], Sequence[float]] = ((), ())
  weight: float = 1.0
  accepted: bool = True
  statistics: Any = ()

  def report(self) -> messages.ClientReport:
    """Returns it as it arrives; it has no dense parameters."""
    model = messages.TrainedModel(
      floats(self.values), floats([]), *map(floats, self.batch_norm)
    )
    update = messages.ClientUpdate(
      model,
      np.float32(self.weight),
      Metrics(*floats([1.5, 1, self.weight])),
      self.statistics,
    )
    return messages.ClientReport(
      update, Verdict(*floats([self.accepted, not self.accepted, 0, 0]))
    )


def update_type(
  active: int, channels: int = 0, adjustment: Adjustment | None = None
) -> tff.Type:
  """Type of what a client with so many values sends."""
  sizes = ModelWeights(active, 0, channels, channels)
  statistics = messages.statistics_type(adjustment) if adjustment else ()
  return messages.client_update_type(sizes, active, tff.types.to_type(statistics))


def report_type(update: tff.Type) -> tff.Type:
  """Type of what the server has of it."""
  return tff.types.to_type(messages.ClientReport(update, Verdict(ONE, ONE, ONE, ONE)))


def top_gradients(strategy: base.Strategy | None = None) -> Adjustment:
  """How the four weights are adjusted, by two votes each."""
  plan = base.AdjustmentPlan(SPEC.with_blocks([[0]]), 0, (2,), 0, 2)
  return (strategy or fedtiny.FedTiny()).adjustment(plan)


def vote(
  indices: Sequence[int], values: Sequence[float], weight: float = 1.0, **changes: Any
) -> Sent:
  """Returns a client's votes, and nothing of a model."""
  sent = fedtiny.TopGradients(np.array(indices, np.int32), floats(values))
  return Sent([], weight=weight, statistics=sent, **changes)


# Of these A has length 5 and C too; the mean of A and B by examples is [3, 6, -8, 0] / 4.
A = vote([0, 2], [3, 4])
B = vote([1, 2], [2, -4], 3.0)
C = vote([0, 1], [-3, 4], 2.0)


def voting(
  mean: Callable[[Any, Any], Any], update: tff.Type
) -> Callable[[Sequence[Sent], int], Any]:
  """Builds a mean of votes: from what clients sent and the round."""

  @tff.federated_computation(
    tff.FederatedType(report_type(update), tff.CLIENTS),
    tff.FederatedType(messages.instruction_type(1), tff.SERVER),
  )
  def run(report: Any, instruction: Any) -> Any:
    return mean(report, instruction)

  def voted(sent: Sequence[Sent], number: int) -> Any:
    instruction = messages.RoundInstruction(
      np.int32(number), np.float32(0.1), np.array([1], np.int32)
    )
    return run([each.report() for each in sent], instruction)

  return voted
