"""A run's client for devices: its model file and its plan, before the first round.

The same for the server, which hands it out, and for `--targets=device_client`, which
hands it to those who build an app: both are of the same run, or messages of the one
would not be taken by the other.
"""

from collections.abc import Iterable, Sequence
from typing import Optional

import tensorflow as tf

from fedtiny_tff.devices.device_messages import TensorLayout
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.device_rounds.device_reports import flat_statistics
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base, registry
from fedtiny_tff.strategies.adjustment import Adjustment
from fedtiny_tff.strategies.pruning_config import PruningConfig
from pipelines.settings import config as config_lib
from tflite_export.device_training.device_bundle import (
  BlockRequest,
  DeviceBundle,
  DeviceRequest,
  make_bundle,
)
from tflite_export.device_training.device_model import DeviceBlock

# On which every method is asked whether devices can do their part in it.
_PROBE_WEIGHTS = 8
_PROBE_CONFIG = PruningConfig(
  0.5, rounds=3, adjust_every_rounds=1, adjust_until_round=3, layer_densities="uniform"
)


def bundle_of(
  config: config_lib.RunConfig,
  models: base.ModelPlan,
  active_count: int,
) -> DeviceBundle:
  """Builds what a run's devices get once; the same for the same arguments.

  Args:
    config: The run.
    models: Its models, and the pruning method.
    active_count: Unpruned weights of the model that devices train, in every round.

  Raises:
    InputError: When devices cannot do their part in the run, naming the flag.
  """
  return make_bundle(request_of(config, models, active_count))


def request_of(
  config: config_lib.RunConfig,
  models: base.ModelPlan,
  active_count: int,
) -> DeviceRequest:
  """Gathers what `make_bundle` is asked for; see `bundle_of`."""
  strategy, spec = models.strategy, models.trained.spec
  events = possible_events(models, config.pruning)
  adjustments = {
    number: strategy.adjustment(
      base.AdjustmentPlan(
        spec, number, schedules.capacities(events, number), config.seed, active_count
      )
    )
    for number in sorted({event.block for event in events})
  }
  _check_strategy(strategy, spec, events, adjustments.values())
  blocks = [
    _block_request(adjustments[number], len(members)) if number in adjustments else None
    for number, members in enumerate(spec.blocks)
  ]
  return DeviceRequest(
    models.trained, config.training, active_count, blocks, config.rounds, config.seed
  )


def possible_events(
  models: base.ModelPlan, config: PruningConfig
) -> tuple[schedules.AdjustmentEvent, ...]:
  """Returns every adjustment that may come, whichever candidate is chosen.

  Devices get their file before one is: what they report has room for any of these.

  Args:
    models: A run's models, and the pruning method.
    config: What the method reads.
  """
  strategy, spec = models.strategy, models.trained.spec
  starts = [
    strategy.starting_counts(spec, counts)
    for counts in strategy.candidate_counts(spec, config)
  ]
  # Candidates that are alike have the same events.
  return tuple(
    event
    for start in dict.fromkeys(starts)
    for event in strategy.plan_events(spec, start, config)
  )


def _block_request(adjustment: Adjustment, layers: int) -> BlockRequest:
  def statistics(
    gradients: Sequence[tf.Tensor], mask: tf.Tensor, counts: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    return flat_statistics(adjustment.client_statistics(gradients, mask, counts))

  specs = flat_statistics(adjustment.statistics_specs())
  layouts = {
    name: TensorLayout(spec.dtype.name, tuple(spec.shape.as_list()))
    for name, spec in specs.items()
  }
  # Where every layer is dense nothing moves, and there is nothing to compute.
  is_empty = not any(each.size_bytes for each in layouts.values())
  return BlockRequest(None if is_empty else DeviceBlock(layers, statistics), layouts)


def _check_strategy(
  strategy: base.Strategy,
  spec: spec_lib.PrunableSpec,
  events: Sequence[schedules.AdjustmentEvent],
  adjustments: Iterable[Adjustment],
) -> None:
  """Refuses methods whose clients do what a device's file does not.

  Raises:
    InputError: Naming those that can be taken.
  """
  reason = _obstacle(strategy, spec, events, adjustments)
  if reason:
    raise InputError(
      f"--strategy={strategy.name}: devices cannot do their part in it, because "
      f"{reason}; choose one of {', '.join(strategies_for_devices())}"
    )


def _obstacle(
  strategy: base.Strategy,
  spec: spec_lib.PrunableSpec,
  events: Sequence[schedules.AdjustmentEvent],
  adjustments: Iterable[Adjustment],
) -> str:
  """Returns why devices cannot do their part, or nothing."""
  if strategy.layer_transform is not None:
    return "its clients train other layers than the model's"
  if strategy.client_penalty(spec, events) is not None:
    return "its clients add a penalty to the loss"
  if any(sum(event.removed(spec)) for event in events):
    return "its masks shrink from event to event, and a device's file has one size"
  for adjustment in adjustments:
    # What is overridden is computed in TensorFlow by simulated clients alone.
    if type(adjustment).train is not Adjustment.train or adjustment.replaces_weights:
      return "its clients train in a way of their own in rounds that adjust masks"
  return ""


def strategies_for_devices() -> tuple[str, ...]:
  """Returns the names of the methods that devices can do their part in."""
  return tuple(
    name
    for name in registry.STRATEGIES
    if not _obstacle_of_probe(registry.get_strategy(name))
  )


def _obstacle_of_probe(strategy: base.Strategy) -> str:
  """Asks a method about a model of one small layer."""
  layer = spec_lib.LayerSpec("probe", (1, _PROBE_WEIGHTS))
  spec = spec_lib.PrunableSpec((layer,), ((0,),))
  start = strategy.starting_counts(spec, strategy.expected_counts(spec, _PROBE_CONFIG))
  events = strategy.plan_events(spec, start, _PROBE_CONFIG)
  adjustment: Optional[Adjustment] = None
  if events:
    capacities = schedules.capacities(events, 0)
    plan = base.AdjustmentPlan(spec, 0, capacities, 0, sum(start))
    adjustment = strategy.adjustment(plan)
  return _obstacle(strategy, spec, events, filter(None, [adjustment]))
