"""Adaptive BN selection over datasets of the user's: which mask rounds start from.

Source: FedTiny (arXiv 2212.01977), adaptive batch-normalisation selection.
"""

import dataclasses
from typing import Optional, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import client_feed, states
from fedtiny_tff.federated import method as method_lib
from fedtiny_tff.federated.adaptive_selection import choice, selection
from fedtiny_tff.federated.runtimes import execution
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection import aggregation_config
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.plan import FedTinyPlan


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
  """What a run starts from.

  Attributes:
    state: Server state before the first round.
    chosen: Number of the candidate in the pool.
    masks: Layer name to bool array in the layout of that layer's kernel; False is
      pruned.
    losses: float64 [candidates], mean over the held-out examples; empty where nothing
      was scored.
    accuracies: float64 [candidates], share of hits among them; empty likewise, and
      where the model has no classes.
    layer_densities: float64 [candidates, layers].
  """

  state: states.ServerState
  chosen: int
  masks: dict[str, Array]
  losses: Array
  accuracies: Array
  layer_densities: Array


def select_candidate(
  model_fn: method_lib.ModelFn,
  plan: FedTinyPlan,
  client_data: client_feed.ClientDatasets,
  *,
  initial_weights: Optional[tff.learning.models.ModelWeights] = None,
  public: Optional[tf.data.Dataset] = None,
  strategy: Union[str, base.Strategy] = "fedtiny",
  task: str = "classify",
  aggregation: aggregation_config.Aggregation = aggregation_config.WEIGHTED_MEAN,
  scratch_dir: Optional[str] = None,
) -> Candidate:
  """Has clients score a pool of masks, and takes the one of least loss.

  Clients measure batch-norm statistics of every candidate, the server pools them, and
  clients evaluate every candidate under them: two exchanges, no training.

  Args:
    model_fn: As in `build_fedtiny`.
    plan: Density, pool and seed; the same goes to `build_fedtiny`.
    client_data: What each client holds out, or what it trains on where it holds nothing
      out; as `process.next` takes it.
    initial_weights: As in `build_fedtiny`; the better they are trained, the more their
      magnitudes say.
    public: As there.
    strategy: As there; one that lets clients choose.
    task: As there.
    aggregation: As there.
    scratch_dir: As there.

  Returns:
    The chosen candidate, for `build_fedtiny`, and what all of them scored.

  Raises:
    InputError: When model, plan and data do not fit one another, the strategy has
      nothing to choose from, there are more clients than the aggregation has room for,
      or no client's scores count.
  """
  execution.require_execution("select_candidate")
  start = method_lib.Start(initial_weights, public, strategy, task)
  method = method_lib.prepare(model_fn, plan, start)
  if not method.strategy.selects:
    raise InputError(
      f"strategy {method.strategy.name} has one candidate only; call build_fedtiny "
      "without a candidate"
    )
  known = method.known
  masks = method.candidate_masks()
  feed = client_feed.ClientFeed(known.definition, scratch_dir)
  references = feed.write(client_data, held_out=True)
  select = selection.build_selection(
    known.definition,
    feed.store,
    candidates=len(masks),
    active_count=int(np.count_nonzero(masks[0])),
    batch_size=plan.training.batch_size,
    adaptive=plan.adaptive_selection,
    aggregation=aggregation.of_scores(len(references)),
  )
  with execution.synchronous():
    result = select(selection.make_pool(known.weights, masks), references)
  if not result.reports:
    raise InputError(
      "no client's scores of the candidates count: they are not finite; look at the "
      "examples and at initial_weights"
    )
  found = choice.choose(result, known.weights)
  return _candidate(method, masks, found)


def first_candidate(method: method_lib.Method) -> Candidate:
  """Takes the first candidate as it is."""
  masks = method.candidate_masks()
  nothing = np.zeros(0)
  return _candidate(
    method, masks, choice.Choice(0, nothing, nothing, method.known.weights)
  )


def _candidate(
  method: method_lib.Method, masks: Array, found: choice.Choice
) -> Candidate:
  spec = method.models.trained.spec
  mask = np.asarray(masks[found.chosen])
  known = method.known._replace(weights=_arrays(found.weights))
  weights, memory = method.strategy.begin(known, mask)
  has_classes = method.models.trained.task.has_classes
  return Candidate(
    states.ServerState(_arrays(weights), mask, np.int32(0), tuple(memory)),
    found.chosen,
    spec.masks_by_layer(mask),
    found.losses,
    found.accuracies if has_classes else np.zeros(0),
    np.array([np.divide(spec.active_counts(each), spec.sizes) for each in masks]),
  )


def _arrays(weights: ModelWeights) -> ModelWeights:
  return ModelWeights(*(np.asarray(vector, np.float32) for vector in weights))
