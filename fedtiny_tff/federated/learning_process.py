"""Federated pruning as TFF's `LearningProcess`, for a training loop of one's own.

    process = build_fedtiny(model_fn, plan)
    state = process.initialize()
    for _ in range(plan.rounds):
      state, metrics = process.next(state, client_datasets)
    model = process.model(state)

Rounds are those of the pipelines: the same computations, wired by `rounds`.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import aggregation as aggregation_lib
from fedtiny_tff.federated import (
  client_feed,
  evaluation,
  final_model,
  messages,
  movement,
  process_types,
  states,
)
from fedtiny_tff.federated import method as method_lib
from fedtiny_tff.federated.adaptive_selection import candidate as candidate_lib
from fedtiny_tff.federated.runtimes import execution
from fedtiny_tff.federated.runtimes.host_computation import HostComputation
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.masked_models import keras_layout
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection import aggregation_config
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.plan import FedTinyPlan

# Has no influence on the result.
_EVALUATION_BATCH = 256


def build_fedtiny(
  model_fn: method_lib.ModelFn,
  plan: FedTinyPlan,
  *,
  candidate: Optional[candidate_lib.Candidate] = None,
  initial_weights: Optional[tff.learning.models.ModelWeights] = None,
  public: Optional[tf.data.Dataset] = None,
  strategy: Union[str, base.Strategy] = "fedtiny",
  task: str = "classify",
  aggregation: aggregation_config.Aggregation = aggregation_config.WEIGHTED_MEAN,
  scratch_dir: Optional[str] = None,
) -> "FedTinyProcess":
  """Builds a learning process that prunes while it trains.

  Args:
    model_fn: Returns a Keras model, sequential or functional, with a fixed input shape;
      a softmax at its end is taken off, and what it is compiled with has no influence.
      It may return a `ModelDefinition` instead, as `fedtiny_tff.get_model` does. It is
      called twice: weights that are the same both times are kept, those drawn at random
      are drawn anew from the plan's seed. For strategies that train a narrower model it
      takes a width multiplier.
    plan: What is pruned, when it is adjusted, and how clients train.
    candidate: What `select_candidate` chose for the same model and plan; None starts
      from the first of the pool.
    initial_weights: What the server has trained, of a model that `model_fn` made; None
      for the weights of `model_fn`. A candidate has its own.
    public: Examples of the server's own, as a client's; some strategies need them.
    strategy: Name of a pruning method, or a `Strategy`.
    task: "classify" (labels) or "reconstruct" (the input again).
    aggregation: How clients' reports are put together.
    scratch_dir: Where the rounds' temporary file goes; None for the system's folder.

  Returns:
    A `tff.learning.templates.LearningProcess`.

  Raises:
    InputError: When model, plan and candidate do not fit one another.
  """
  start = method_lib.Start(initial_weights, public, strategy, task)
  method = method_lib.prepare(model_fn, plan, start)
  if candidate is None:
    candidate = candidate_lib.first_candidate(method)
  else:
    _check_fits(candidate, method)
  if not isinstance(aggregation, aggregation_config.Aggregation):
    raise InputError(
      f"aggregation is {aggregation!r:.60}; give a fedtiny_tff.Aggregation, such as "
      'Aggregation("robust")'
    )
  return FedTinyProcess(method, candidate, aggregation, scratch_dir)


def _check_fits(candidate: candidate_lib.Candidate, method: method_lib.Method) -> None:
  spec = method.models.trained.spec
  found = {name: mask.shape for name, mask in candidate.masks.items()}
  if found != {layer.name: layer.shape for layer in spec.layers}:
    raise InputError(
      "candidate was selected for another model; call select_candidate with the same "
      "model_fn and plan"
    )
  kept = int(np.count_nonzero(candidate.state.mask))
  # One mask tells: all of a pool have as many weights.
  alone = dataclasses.replace(method.plan, pool_size=1)
  [mask, *_] = method.strategy.candidate_masks(method.known, alone)
  wanted = int(np.count_nonzero(mask))
  if kept != wanted:
    raise InputError(
      f"candidate keeps {kept} weights, a target_density of "
      f"{method.plan.target_density:g} {wanted}; call select_candidate with the same plan"
    )


def _check_state(state: Any) -> None:
  """Refuses what is no state, such as all that `next` returns."""
  if not isinstance(state, states.ServerState):
    raise InputError(
      f"state is {type(state).__name__}; give what initialize() returned, or the `state` "
      "of what next() did"
    )


class FedTinyProcess(tff.learning.templates.LearningProcess):
  """The process; `initialize`, `next`, `get_model_weights` and so on as in TFF.

  `next` takes the state and a dataset for each client of the round, with every example
  once: epochs and batch size are the plan's. A client is its place in that list, which
  seeds its randomness together with the plan's seed and the round.
  """

  def __init__(
    self,
    method: method_lib.Method,
    candidate: candidate_lib.Candidate,
    aggregation: aggregation_config.Aggregation,
    scratch_dir: Optional[str],
  ):
    """Use `build_fedtiny`."""
    self._method = method
    self._definition = method.models.trained
    self._feed = client_feed.ClientFeed(self._definition, scratch_dir)
    self._layout = keras_layout.lay_out(self._definition)
    self._evaluations: dict[int, tff.Computation] = {}
    spec = self._definition.spec
    counts = spec.active_counts(candidate.state.mask)
    self._builder = rounds.RoundBuilder(
      self._definition,
      self._feed.store,
      method.plan.training,
      method.strategy,
      method.strategy.plan_events(spec, counts, method.plan),
      active_count=sum(counts),
      seed=method.plan.seed,
      memory=candidate.state.memory,
      aggregation=aggregation,
    )
    self._most_clients = aggregation_lib.most_clients(
      aggregation,
      filter(None, (self._builder.adjustment(e.round_index) for e in self.events)),
    )
    self._start = candidate.state._replace(
      aggregation=self._builder.initial_aggregation()
    )
    types = process_types.ProcessTypes(
      self._start, self._layout, self._feed.dataset_type, self._definition.task,
      len(method.models.pretrained.spec.layers),
    )  # fmt: skip
    super().__init__(
      HostComputation("initialize", self._initialize, types.initialize),
      HostComputation("next", self._next, types.next),
      HostComputation("get_model_weights", self._read_weights, types.get_model_weights),
      HostComputation(
        "set_model_weights", self._write_weights, types.set_model_weights
      ),
    )

  @property
  def plan(self) -> FedTinyPlan:
    """What was planned."""
    return self._method.plan

  @property
  def events(self) -> tuple[schedules.AdjustmentEvent, ...]:
    """Every mask adjustment of the run, in order."""
    return self._builder.events

  @property
  def layer_names(self) -> tuple[str, ...]:
    """Prunable layers, in the order of the metrics' `layer_density`."""
    return tuple(layer.name for layer in self._method.models.pretrained.spec.layers)

  def model(self, state: states.ServerState) -> tf.keras.Model:
    """Returns the model of a state as a plain Keras model; pruned weights are zero."""
    return final_model.finalize(self._definition, self._plain(state))

  def masks(self, state: states.ServerState) -> dict[str, Array]:
    """Returns the masks of a state: layer name to bool array of the kernel's shape."""
    _check_state(state)
    return self._definition.spec.masks_by_layer(np.asarray(state.mask))

  def evaluate(
    self, state: states.ServerState, client_data: client_feed.ClientDatasets
  ) -> dict[str, float]:
    """Evaluates a state on held-out datasets of clients, federated.

    Args:
      state: Of any round.
      client_data: As `next` takes it.

    Returns:
      `loss` and, where there are classes, `accuracy`, means over all examples; and
      `num_examples`.
    """
    execution.require_execution("evaluate")
    plain = states.to_sparse(self._plain(state))
    active = int(np.count_nonzero(state.mask))
    if active not in self._evaluations:
      self._evaluations[active] = evaluation.build_evaluation(
        self._definition,
        self._feed.store,
        active_count=active,
        batch_size=_EVALUATION_BATCH,
      )
    references = self._feed.write(client_data, held_out=True)
    with execution.synchronous():
      sums = self._evaluations[active](plain, references)
    return {name: float(value) for name, value in self._means(sums).items()}

  def _initialize(self) -> states.ServerState:
    fresh: states.ServerState = tf.nest.map_structure(np.array, self._start)
    return fresh

  def _next(
    self, state: states.ServerState, client_data: client_feed.ClientDatasets
  ) -> tff.learning.templates.LearningProcessOutput:
    """Runs the round that the state is at."""
    _check_state(state)
    number = int(state.round_index)
    if not 0 <= number < self.plan.rounds:
      raise InputError(
        f"state is at round {number}, the plan has {self.plan.rounds}; use a plan of more "
        "rounds"
      )
    references = self._feed.write(client_data)
    if self._most_clients is not None and len(references) > self._most_clients:
      raise InputError(
        f"round {number} has {len(references)} clients, its aggregation takes "
        f"{self._most_clients}; give fewer, or raise slots of the Aggregation, or clients "
        "of its SecureSums"
      )
    computation = self._builder.computation(number)
    rate = base.learning_rate(
      self._method.strategy, number, self.events, self.plan.learning_rate
    )
    with execution.synchronous():
      after, sums = computation.run(
        state, references, self._builder.instruction(number, rate)
      )
    if not sums.accepted:
      raise InputError(
        f"round {number}: no report of {len(references)} clients counts "
        f"({int(sums.not_finite)} not finite, {int(sums.outlandish)} too far from the "
        "model); lower the learning rate, or look at the data"
      )
    event = self._builder.event(number)
    spec = self._method.models.pretrained.spec
    moved = movement.count_moved(self._method.strategy, spec, state, after, event)
    metrics = self._metrics(after, sums, computation, moved, event)
    return tff.learning.templates.LearningProcessOutput(after, metrics)

  def _metrics(
    self,
    state: states.ServerState,
    sums: messages.RoundMetrics,
    computation: rounds.RoundComputation,
    moved: movement.Movement,
    event: Optional[schedules.AdjustmentEvent],
  ) -> Mapping[str, Any]:
    """Returns what `process_types` says, in TFF's groups."""
    spec = self._method.models.pretrained.spec
    kept = self._method.strategy.kept_weights(np.asarray(state.mask), state.memory)
    verdicts = ("accepted", "not_finite", "wrong_count", "outlandish")
    return collections.OrderedDict(
      distributor=collections.OrderedDict(
        bytes_per_client=np.int64(computation.download_bytes)
      ),
      client_work=collections.OrderedDict(train=self._means(sums)),
      aggregator=collections.OrderedDict(
        [(name, np.int32(getattr(sums, name))) for name in verdicts],
        bytes_per_client=np.int64(computation.upload_bytes),
      ),
      finalizer=collections.OrderedDict(
        density=np.float32(
          np.count_nonzero(state.mask) / self._method.models.full.spec.size
        ),
        dropped=np.int32(sum(moved.dropped)),
        grown=np.int32(sum(moved.grown)),
        adjusted_block=np.int32(-1 if event is None else event.block),
        layer_density=np.divide(spec.active_counts(kept), spec.sizes).astype(
          np.float32
        ),
      ),
    )

  def _means(self, sums: Any) -> Mapping[str, np.float32]:
    """Returns mean loss, and share of hits where there are classes."""
    count = max(float(sums.examples), 1.0)
    means = collections.OrderedDict(loss=np.float32(float(sums.loss_sum) / count))
    if self._definition.task.has_classes:
      means["accuracy"] = np.float32(float(sums.correct) / count)
    means["num_examples"] = np.float32(sums.examples)
    return means

  def _plain(self, state: states.ServerState) -> states.ServerState:
    """Replaces weights by those with which the plain model computes the same."""
    _check_state(state)
    plain = self._method.strategy.plain_weights(
      self._definition.spec, state.weights, np.asarray(state.mask)
    )
    return state._replace(weights=plain)

  def _read_weights(
    self, state: states.ServerState
  ) -> tff.learning.models.ModelWeights:
    return tff.learning.models.ModelWeights(
      *self._layout.read(self._plain(state).weights)
    )

  def _write_weights(
    self, state: states.ServerState, model_weights: tff.learning.models.ModelWeights
  ) -> states.ServerState:
    """Replaces the weights; masks stay, and what they prune is zero."""
    strategy = self._method.strategy
    if type(strategy).plain_weights is not base.Strategy.plain_weights:
      raise InputError(
        f"strategy {strategy.name} trains its weights in another form; give "
        "initial_weights to build_fedtiny instead of setting them later"
      )
    weights = self._layout.write(*model_weights)
    prunable = np.where(state.mask, weights.prunable, np.float32(0))
    return state._replace(weights=ModelWeights(prunable, *weights[1:]))
