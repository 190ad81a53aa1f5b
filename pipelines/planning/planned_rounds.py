"""What the rounds of a run will be, before any is run: events and bytes."""

import dataclasses
from typing import Any, Optional

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.training_rounds import traffic
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection.aggregation_config import Aggregation
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base
from pipelines.models.cost_figures import MaskPlan


@dataclasses.dataclass(frozen=True)
class PlannedTraffic:
  """What a client exchanges that takes part in every round.

  Attributes:
    rounds: Rounds by number that differ from the one before: number, bytes down, up.
    download_bytes: Of all rounds.
    upload_bytes: Likewise.
  """

  rounds: tuple[tuple[int, int, int], ...]
  download_bytes: int
  upload_bytes: int


def plan_traffic(
  sizes: ModelWeights,
  models: base.ModelPlan,
  plan: MaskPlan,
  rounds: int,
  aggregation: Aggregation,
  all_clients_every_round: bool,
) -> PlannedTraffic:
  """Counts the bytes of every round from the types of its messages.

  Args:
    sizes: Lengths of the trained model's flat vectors.
    models: Models and method.
    plan: Masks and events.
    rounds: Rounds in all.
    aggregation: How reports are put together.
    all_clients_every_round: Whether no client ever misses a round.
  """
  spec, active = models.trained.spec, plan.most_active
  by_round = {event.round_index: event for event in plan.events}
  event_rounds = sorted(by_round)
  known: dict[tuple[int, Optional[int], bool], tuple[int, int]] = {}
  changes: list[tuple[int, int, int]] = []
  down = up = 0
  for number in range(rounds):
    event = by_round.get(number)
    stay = all_clients_every_round and traffic.positions_stay(event_rounds, number)
    key = (active, event.block if event else None, stay)
    if key not in known:
      model_type = messages.sparse_model_type(sizes, active)
      told = len(event.counts) if event else 0
      known[key] = (
        messages.size_bytes(model_type)
        - (messages.size_bytes(model_type.positions) if stay else 0)
        + messages.size_bytes(messages.instruction_type(told)),
        traffic.round_upload_bytes(
          sizes, spec, active, models.strategy, plan.events, key[1], aggregation
        ),
      )
    if not changes or changes[-1][1:] != known[key]:
      changes.append((number, *known[key]))
    down, up = down + known[key][0], up + known[key][1]
    if event is not None:
      active -= sum(event.removed(spec))
  return PlannedTraffic(tuple(changes), down, up)


def describe_event(
  event: schedules.AdjustmentEvent, models: base.ModelPlan
) -> dict[str, Any]:
  """Returns when an event is, and how many weights move in which layers.

  Args:
    event: The event.
    models: Models and method; the layers are the trained model's.
  """
  spec = models.trained.spec
  return {
    "round": event.round_index,
    "block": event.block,
    "grows": event.grows,
    "layers": [
      {
        "name": spec.layers[layer].name,
        "weights_moved": count * spec.layers[layer].channel_block,
        "weights": spec.layers[layer].size,
      }
      for layer, count in zip(spec.blocks[event.block], event.counts, strict=True)
    ],
  }
