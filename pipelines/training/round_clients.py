"""Where a round's reports come from: clients that TFF simulates, or others.

`device_federation.DeviceFederation` is the other kind. Both are what `Phase` works with.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.federated import evaluation, messages, states
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.model_structure import definition
from fedtiny_tff.tasks import Metrics
from pipelines.datasets.data_folder import RunData
from pipelines.runs.participation import Participants

# Examples per batch when nothing is trained; has no influence on the result.
_EVALUATION_BATCH = 256


class RoundClients(Protocol):
  """Who computes a round's reports."""

  def builder_options(self) -> dict[str, Any]:
    """Returns what `rounds.RoundBuilder` must know of them."""

  def gather(
    self,
    builder: rounds.RoundBuilder,
    state: states.ServerState,
    instruction: messages.RoundInstruction,
    who: Participants,
  ) -> tuple[Participants, Sequence[Any]]:
    """Returns who takes part in the end, and what the round's computation takes of them.

    Args:
      builder: The phase's.
      state: What the round starts from.
      instruction: What the server says.
      who: Who was drawn.
    """

  def evaluate(
    self, state: states.ServerState, clients: Sequence[ClientReference]
  ) -> Metrics:
    """Sums metrics over the clients' held-out parts.

    Args:
      state: What is evaluated, with weights for the plain model.
      clients: Whose held-out parts.
    """


class SimulatedClients:
  """Clients that compute in TFF's runtime, from the run's data."""

  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    data: RunData,
    secure: Any,
    miss_rounds: bool,
  ):
    """Takes what evaluation needs.

    Args:
      model_definition: The model.
      data: The run's data.
      secure: How sums are hidden, if they are.
      miss_rounds: Whether one of all clients may ever miss a round.
    """
    self._definition = model_definition
    self._data = data
    self._secure = secure
    self._miss_rounds = miss_rounds
    self._evaluations: dict[int, Any] = {}

  def builder_options(self) -> dict[str, Any]:
    """Says whether a mask that was sent once is held by all."""
    return {"all_clients_every_round": not self._miss_rounds}

  def gather(
    self,
    builder: rounds.RoundBuilder,
    state: states.ServerState,
    instruction: messages.RoundInstruction,
    who: Participants,
  ) -> tuple[Participants, Sequence[Any]]:
    """Returns those who report: the round's computation lets them work."""
    del builder, state, instruction
    return who, who.reporting

  def evaluate(
    self, state: states.ServerState, clients: Sequence[ClientReference]
  ) -> Metrics:
    """Lets the clients evaluate, in a computation per number of active weights."""
    active_count = int(np.count_nonzero(state.mask))
    if active_count not in self._evaluations:
      self._evaluations[active_count] = evaluation.build_evaluation(
        self._definition,
        self._data.clients,
        active_count=active_count,
        batch_size=_EVALUATION_BATCH,
        secure=self._secure,
      )
    return self._evaluations[active_count](states.to_sparse(state), list(clients))
