"""What selection and rounds have in common: model, method, and where they start from."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import tasks
from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import client_feed
from fedtiny_tff.masked_models import keras_layout, tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition, pruning_scope
from fedtiny_tff.models import model_function
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, registry
from fedtiny_tff.strategies.plan import FedTinyPlan

ModelFn = Callable[..., Union[tf.keras.Model, definition.ModelDefinition]]


@dataclasses.dataclass(frozen=True)
class Start:
  """What may be given beside model and plan.

  Attributes:
    initial_weights: Of a model that `model_fn` has made, perhaps trained on the server;
      None for the weights that it comes with.
    public: The server's own examples, which some methods need; as a client's.
    strategy: Key of the registry, or a method of one's own.
    task: Key of `tasks.TASKS`, for a `model_fn` that returns Keras models.
  """

  initial_weights: Optional[tff.learning.models.ModelWeights] = None
  public: Optional[tf.data.Dataset] = None
  strategy: Union[str, base.Strategy] = "fedtiny"
  task: str = "classify"


@dataclasses.dataclass(frozen=True)
class Method:
  """A plan with its models.

  Attributes:
    plan: The plan.
    models: The models, with the blocks that the method adjusts, and the method.
    known: What the server knows before the first round.
  """

  plan: FedTinyPlan
  models: base.ModelPlan
  known: base.Pretrained

  @property
  def strategy(self) -> base.Strategy:
    """The pruning method."""
    return self.models.strategy

  def candidate_masks(self) -> Array:
    """Returns the masks to choose from, bool [candidates, prunable weights]."""
    return self.strategy.candidate_masks(self.known, self.plan)


def prepare(model_fn: ModelFn, plan: FedTinyPlan, start: Start) -> Method:
  """Admits a model and gathers what the rounds start from.

  Args:
    model_fn: Makes the model; for a method that makes it narrower, of a width
      multiplier.
    plan: The plan.
    start: What else is known.

  Raises:
    InputError: When they do not fit one another.
  """
  if not isinstance(plan, FedTinyPlan):
    raise InputError(
      f"plan must be a FedTinyPlan, got {type(plan).__name__}; make one with "
      "fedtiny_tff.FedTinyPlan(target_density=..., rounds=...)"
    )
  models = _plan_models(model_fn, plan, start)
  model_definition, strategy = models.pretrained, models.strategy
  weights = _initial_weights(model_definition, plan, start)
  feed = client_feed.ClientFeed(model_definition)
  public = feed.read_all("public", start.public)
  strategy.check_public(len(public[1]))
  return Method(plan, models, base.Pretrained(model_definition, weights, public))


def _strategy(given: Union[str, base.Strategy]) -> base.Strategy:
  if isinstance(given, base.Strategy):
    return given
  if not isinstance(given, str):
    raise InputError(
      f"strategy must be a name or a Strategy, got {type(given).__name__}; names are "
      f"{', '.join(registry.STRATEGIES)}"
    )
  return registry.get_strategy(given)


def _plan_models(model_fn: ModelFn, plan: FedTinyPlan, start: Start) -> base.ModelPlan:
  strategy = _strategy(start.strategy)
  if start.task not in tasks.TASKS:
    raise InputError(
      f"task must be one of {', '.join(tasks.TASKS)}, got {start.task!r}"
    )
  if strategy.is_smaller and not model_function.takes_width(model_fn):
    raise InputError(
      f"strategy {strategy.name} makes the model narrower: give a model_fn that takes a "
      "width multiplier and returns the model of that width"
    )

  @functools.cache
  def find(width: float) -> definition.ModelDefinition:
    arguments: Sequence[float] = (width,) if strategy.is_smaller else ()
    plain = model_function.admit(
      model_fn, tasks.TASKS[start.task], plan.blocks, *arguments
    )
    found = pruning_scope.prune_for(plain, plan.prune_for)
    spec = found.spec.with_channel_block(plan.channel_block)
    spec = schedules.GRANULARITIES[strategy.granularity or plan.granularity](spec)
    return dataclasses.replace(found, spec=spec)

  return strategy.plan_models(find, 1.0, plan)


def _initial_weights(
  model_definition: definition.ModelDefinition, plan: FedTinyPlan, start: Start
) -> ModelWeights:
  """Returns what training starts from, NumPy arrays."""
  given: Any = start.initial_weights
  if given is None:
    drawn = tfmot_masking.initial_weights(model_definition, plan.seed)
    return ModelWeights(*(np.asarray(vector) for vector in drawn))
  if not isinstance(given, tff.learning.models.ModelWeights):
    raise InputError(
      f"initial_weights are {type(given).__name__}; give "
      "tff.learning.models.ModelWeights.from_model(model)"
    )
  return keras_layout.lay_out(model_definition).write(*given)
