"""A run whose clients are devices: what is simulated elsewhere is asked of them.

The server's computations are the simulation's own. Its figures of clients' data are
what devices say of themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.devices import device_plan, device_tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.federated.device_rounds import (
  device_reports,
  received_selection,
  received_work,
)
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection import aggregation_config
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.tasks import Metrics
from pipelines.devices.device_asking import DeviceAsking, Question, Tensors
from pipelines.runs.participation import Participants


class DeviceFederation:
  """The devices of a run; stands where `round_clients.SimulatedClients` does."""

  def __init__(
    self,
    asking: DeviceAsking,
    plan: device_plan.DevicePlan,
    aggregation: aggregation_config.Aggregation,
    events: Sequence[schedules.AdjustmentEvent],
    most_examples: int,
  ):
    """Takes what is asked through, and for what.

    Args:
      asking: The way to the devices.
      plan: The plan that they have.
      aggregation: How their reports are put together; one that hides none.
      events: What the plan's reports have room for.
      most_examples: A device that says to have more is refused.
    """
    self._asking = asking
    self._plan = plan
    self._aggregation = aggregation
    self._events = tuple(events)
    self._most_examples = most_examples
    self._selections: dict[int, received_selection.ReceivedSelection] = {}

  @property
  def _sizes(self) -> ModelWeights:
    model = self._plan.model
    return ModelWeights(model.prunable, model.dense, model.batch_norm, model.batch_norm)

  def introduce(self, count: int) -> np.ndarray:
    """Waits until devices have said how many examples they have.

    Args:
      count: Devices of the run; they are numbered from 0.

    Returns:
      int64 [count, 4], the fields of `ClientReference`; zeros for one that said nothing.

    Raises:
      InputError: When none did.
    """
    layouts = device_plan.hello_layouts()
    question = Question(
      device_tasks.HELLO, range(count), {}, layouts, check=self._check_hello
    )
    references = np.zeros([count, 4], np.int64)
    references[:, 0] = np.arange(count)
    answers = self._asking.ask(question)
    if not answers:
      raise InputError(
        "--device_exchange: no device has said hello; start python -m "
        "pipelines.device_client with the same --exchange, or raise "
        "--device_timeout_seconds"
      )
    for client, by_number in answers.items():
      references[client, 2:] = [int(by_number[0][name][0]) for name in layouts]
    return references

  def _check_hello(self, hello: Tensors) -> None:
    """Refuses a device that would outweigh all others by what it says of itself."""
    training, held_out = (int(hello[n][0]) for n in device_plan.hello_layouts())
    if min(training, held_out) < 0 or max(training, held_out) > self._most_examples:
      raise InputError(
        f"it says to have {training:,} training and {held_out:,} held-out examples; "
        f"leave it out, or raise --device_most_examples={self._most_examples}"
      )

  def builder_options(self) -> dict[str, Any]:
    """Lets reports arrive; positions always travel, as devices may miss rounds."""
    return {
      "build_work": received_work.build_received_work,
      "slots_for": self._events,
    }

  def gather(
    self,
    builder: rounds.RoundBuilder,
    state: states.ServerState,
    instruction: messages.RoundInstruction,
    who: Participants,
  ) -> tuple[Participants, Sequence[received_work.Received]]:
    """Asks for a round; returns those who reported, and their reports."""
    number = int(instruction.round_index)
    event = builder.event(number)
    block = None if event is None else event.block
    drawn = {int(reference.client): reference for reference in who.reporting}
    answers = self._asking.ask(
      Question(
        device_tasks.TRAIN,
        list(drawn),
        {number: device_reports.round_tensors(state, instruction)},
        self._plan.update_layouts(block),
        block,
      )
    )
    adjustment = builder.adjustment(number)
    reports = [
      device_reports.received_update(drawn[client], found[number], adjustment)
      for client, found in answers.items()
    ]
    late = who.late + len(drawn) - len(reports)
    reporting = [report.reference for report in reports]
    return who._replace(reporting=reporting, late=late), reports

  def evaluate(
    self, state: states.ServerState, clients: Sequence[ClientReference]
  ) -> Metrics:
    """Asks for figures of a model on held-out parts; adds up those that can be."""
    number = int(state.round_index)
    question = (device_tasks.EVALUATE, {number: device_reports.state_tensors(state)})
    sums, _ = self._scores(*question, clients)
    return Metrics(*(np.float32(each[0]) for each in sums))

  def select(
    self,
    pool: selection.CandidatePool,
    clients: Sequence[ClientReference],
    adaptive: bool,
  ) -> selection.SelectionResult:
    """Asks for the scores of all candidates, under statistics that are asked for first.

    Args:
      pool: The candidates.
      clients: Who is asked.
      adaptive: As in `selection.build_selection`.
    """
    count = len(pool.active_values)
    statistics = selection.BatchNormStatistics(
      np.stack([pool.batch_norm_mean] * count),
      np.stack([pool.batch_norm_variance] * count),
    )
    if adaptive and self._plan.model.batch_norm:
      statistics = self._pooled(pool, clients)
    scoring = {
      number: device_reports.candidate_tensors(pool, number, statistics)
      for number in range(count)
    }
    scores, reports = self._scores(device_tasks.SCORE, scoring, clients)
    return selection.SelectionResult(scores, statistics, reports)

  def finish(self) -> None:
    """Tells the devices that the run is over."""
    self._asking.finish()

  def _pooled(
    self, pool: selection.CandidatePool, clients: Sequence[ClientReference]
  ) -> selection.BatchNormStatistics:
    numbers = range(len(pool.active_values))
    answers = self._asking.ask(
      Question(
        device_tasks.MEASURE,
        _numbers(clients),
        {number: device_reports.candidate_tensors(pool, number) for number in numbers},
        self._plan.moment_layouts(),
      )
    )
    _check_any(answers)
    moments = [
      device_reports.stacked_moments([found[number] for number in numbers])
      for found in answers.values()
    ]
    server = self._server(len(numbers))
    found, reports = server.pool_moments(pool, moments, _those(clients, answers))
    if not reports:
      raise InputError(
        "selection: no device's batch-norm moments count; look at the devices' data, or "
        "take --selection=none"
      )
    return selection.BatchNormStatistics(*found)

  def _scores(
    self,
    work: str,
    sent: Mapping[int, Tensors],
    clients: Sequence[ClientReference],
  ) -> tuple[Metrics, Any]:
    """Asks for figures of some models; returns them added up, and how many count."""
    question = Question(work, _numbers(clients), sent, device_plan.metric_layouts())
    answers = self._asking.ask(question)
    if not answers:
      nothing = np.zeros(len(sent), np.float32)
      return Metrics(nothing, nothing, nothing), np.float32(0)
    scores = [
      device_reports.stacked_scores([found[number] for number in sent])
      for found in answers.values()
    ]
    server = self._server(len(sent))
    sums, reports = server.add_scores(scores, _those(clients, answers))
    return Metrics(*sums), reports

  def _server(self, candidates: int) -> received_selection.ReceivedSelection:
    if candidates not in self._selections:
      self._selections[candidates] = received_selection.build_received_selection(
        self._sizes, candidates, self._plan.model.active, self._aggregation
      )
    return self._selections[candidates]


def _numbers(clients: Sequence[ClientReference]) -> list[int]:
  return [int(reference.client) for reference in clients]


def _those(
  clients: Sequence[ClientReference], answers: Mapping[int, Any]
) -> list[ClientReference]:
  """Returns the references of those who answered, in the answers' order."""
  by_number = {int(reference.client): reference for reference in clients}
  return [by_number[client] for client in answers]


def _check_any(answers: Mapping[int, Any]) -> None:
  if not answers:
    raise InputError(
      "selection: no device answered in time; raise --device_timeout_seconds, or take "
      "--selection=none"
    )
