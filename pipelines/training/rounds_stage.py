"""Runs federated rounds and keeps every finished one.

A *phase* is one series of rounds with its own states: the pruning run itself, and
the dense run it is compared with.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import messages, movement, states
from fedtiny_tff.federated.training_rounds import rounds
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base
from pipelines.apps import process_memory
from pipelines.apps.progress import Progress
from pipelines.datasets.data_folder import RunData
from pipelines.runs import participation, state_arrays, state_store
from pipelines.runs.metrics_log import Layer, MetricsLog
from pipelines.settings import config as config_lib
from pipelines.settings import privacy_plan
from pipelines.tracking.base import without_blanks
from pipelines.training import early_stopping, round_clients, round_profile


@dataclasses.dataclass(frozen=True)
class PhaseResult:
  """Where a phase ended.

  Attributes:
    state: Final server state, NumPy arrays, with weights for the plain model.
    rows: One mapping per round, the columns of `metrics.csv`.
    events: One mapping per mask adjustment.
    rounds: How many rounds there were; see `early_stopping.summary`.
  """

  state: states.ServerState
  rows: list[dict[str, Any]]
  events: list[dict[str, Any]]
  rounds: dict[str, Any]


class Phase:
  """One series of rounds; call `run` inside a running TFF runtime."""

  def __init__(
    self,
    name: str,
    config: config_lib.RunConfig,
    data: RunData,
    models: base.ModelPlan,
    store: state_store.StateStore,
    log: MetricsLog,
    progress: Progress,
    clients: Optional[round_clients.RoundClients] = None,
  ):
    """Takes what the phase works with; see `Phase.run`.

    Without clients they are simulated.
    """
    self._name = name
    self._config = config
    self._data = data
    self._models = models
    self._definition = models.trained
    self._strategy = models.strategy
    self._store = store
    self._log = log
    self._progress = progress
    references = data.references
    self._aggregation = participation.aggregated(
      config,
      len(references),
      privacy_plan.largest_examples(references),
      models.strategy,
    )
    self._privacy = privacy_plan.plan(config, len(references), models.strategy)
    self._clients = clients or round_clients.SimulatedClients(
      models.trained,
      data,
      self._aggregation.secure,
      participation.misses_rounds(config, len(references)),
    )
    self._most_rounds = config.rounds
    self._profile = round_profile.NOTHING
    self._family = process_memory.ProcessFamily()

  def run(
    self,
    initial: states.ServerState,
    most_rounds: Optional[int] = None,
    profile: round_profile.RoundProfile = round_profile.NOTHING,
  ) -> PhaseResult:
    """Runs the rounds that are not finished yet.

    Args:
      initial: State before the first round; used unless a later one is stored.
      most_rounds: Where to end, if not at `--rounds` or by `--early_stopping`.
      profile: Times the stages of rounds.
    """
    self._profile = profile
    plan = self._planned_events(initial)
    patience = self._config.early_stopping if most_rounds is None else 0
    stopping = early_stopping.after_adjustments(patience, plan)
    self._most_rounds = most_rounds or self._config.rounds
    with self._log.following(self._layers(initial)):
      state, rows, events = self._resume(initial)
      self._log.write(rows, events)
      if len(rows) < self._most_rounds and not stopping.is_due(rows):
        builder = self._build(initial, plan)
        with self._progress.steps(
          f"{self._name} round", self._most_rounds, len(rows)
        ) as steps:
          while len(rows) < self._most_rounds and not stopping.is_due(rows):
            with self._profile.round(len(rows), self._most_rounds - len(rows)):
              state = self._one_more(builder, state, rows, events)
            told = f"{_figures(rows[-1])}, {_ahead(rows, plan)}"
            steps.advance(told, without_blanks(rows[-1]))
      if len(rows) < self._most_rounds:
        self._progress.say(
          f"{self._name}: stopped after {len(rows)} rounds, as --early_stopping says; the "
          f"held-out loss was least after {1 + (stopping.best_round(rows) or 0)}"
        )
    ended = early_stopping.summary(rows, self._config.rounds, stopping)
    return PhaseResult(self._plain(state), rows, events, ended)

  def _one_more(
    self,
    builder: rounds.RoundBuilder,
    state: states.ServerState,
    rows: list[dict[str, Any]],
    events: list[dict[str, Any]],
  ) -> states.ServerState:
    """Runs a round, keeps it, and adds to rows and events."""
    state, row, event = self._round(builder, state, len(rows))
    rows.append(row)
    events += [event] if event else []
    document = {"rows": rows, "events": events}
    with self._profile.stage("saving the state"):
      self._store.save(len(rows), state_arrays.of_state(state), document)
    with self._profile.stage("metrics and trackers"):
      self._log.write(rows, events)
    return state

  def _layers(self, initial: states.ServerState) -> list[Layer]:
    """Returns the pre-trained model's layers, of which events are told."""
    spec = self._models.pretrained.spec
    kept = self._strategy.kept_weights(np.asarray(initial.mask), initial.memory)
    return [
      Layer(layer.name, active, layer.size)
      for layer, active in zip(spec.layers, spec.active_counts(kept), strict=True)
    ]

  def _planned_events(
    self, initial: states.ServerState
  ) -> Sequence[schedules.AdjustmentEvent]:
    spec = self._definition.spec
    active_counts = spec.active_counts(np.asarray(initial.mask))
    return self._strategy.plan_events(spec, active_counts, self._config.pruning)

  def _resume(
    self, initial: states.ServerState
  ) -> tuple[states.ServerState, list[dict], list[dict]]:
    stored = self._store.load_latest()
    if stored is None:
      return initial, [], []
    done, arrays, document = stored
    self._progress.say(f"{self._name}: going on after {done} rounds")
    return state_arrays.to_state(arrays, done), document["rows"], document["events"]

  def _build(
    self, initial: states.ServerState, events: Sequence[schedules.AdjustmentEvent]
  ) -> rounds.RoundBuilder:
    """Plans every round from the state before the first, wherever the phase goes on."""
    return rounds.RoundBuilder(
      self._definition,
      self._data.clients,
      self._config.training,
      self._strategy,
      events,
      active_count=int(np.count_nonzero(initial.mask)),
      seed=self._config.seed,
      memory=initial.memory,
      aggregation=self._aggregation,
      poisoned=participation.poisoned(self._config, self._data),
      **self._clients.builder_options(),
    )

  def _plain(self, state: states.ServerState) -> states.ServerState:
    """Replaces weights by those with which the plain model computes the same."""
    plain = self._strategy.plain_weights(
      self._definition.spec, state.weights, np.asarray(state.mask)
    )
    return state._replace(weights=plain)

  def _round(
    self, builder: rounds.RoundBuilder, state: states.ServerState, number: int
  ) -> tuple[states.ServerState, dict[str, Any], Optional[dict[str, Any]]]:
    start, cpu_start = time.monotonic(), self._family.cpu_seconds()
    with self._profile.stage("building the round"):
      computation = builder.computation(number, np.asarray(state.mask))
    rate = base.learning_rate(
      self._strategy, number, builder.events, self._config.learning_rate
    )
    instruction = builder.instruction(number, rate)
    with self._profile.stage("clients and aggregation"):
      new_state, metrics, who, attempts = self._reported(
        lambda reports: computation.run(state, reports, instruction),
        lambda drawn: self._clients.gather(builder, state, instruction, drawn),
        number,
      )
    event = builder.event(number)
    with self._profile.stage("checking the mask"):
      moved = self._movement(state, new_state, number, event)
    last = number == self._most_rounds - 1
    held_out = None
    if last or (number + 1) % self._config.eval_every_rounds == 0:
      with self._profile.stage("evaluation"):
        held_out = self._clients.evaluate(self._plain(new_state), who.reporting)
    used = self._family.look()
    row = {
      "round": number,
      **_means("train", metrics, self._definition.task),
      **_means("eval", held_out, self._definition.task),
      "density": int(np.count_nonzero(new_state.mask)) / self._models.full.spec.size,
      "clients": who.invited,
      "reports": int(metrics.accepted),
      "excluded": len(who.reporting) - int(metrics.accepted),
      "attempts": attempts,
      "seconds": round(time.monotonic() - start, 3),
      # A worker that was lost took its time with it.
      "cpu_seconds": round(max(used.cpu_seconds - cpu_start, 0.0), 2),
      "rss_mb": round(used.rss_mb, 1),
      "bytes_up_per_client": computation.upload_bytes,
      "bytes_down_per_client": computation.download_bytes,
      "secure_extra_bytes": computation.secure_extra_bytes,
      "epsilon": ""
      if self._privacy is None
      else self._privacy.after_round(number, self._config.rounds),
      "adjusted_block": event.block if event else "",
    }
    return new_state, row, moved

  def _reported(
    self,
    run: Callable[[Sequence[Any]], tuple[states.ServerState, messages.RoundMetrics]],
    gather: Callable[
      [participation.Participants], tuple[participation.Participants, Sequence[Any]]
    ],
    number: int,
  ) -> tuple[
    states.ServerState, messages.RoundMetrics, participation.Participants, int
  ]:
    """Runs a round, with other clients as long as too few reports count.

    Returns:
      State, metrics, who took part, and how often clients were drawn.

    Raises:
      InputError: When that does not help.
    """
    # A private round counts whoever reports: its sums are divided by those expected.
    needed = 0 if self._privacy is not None else self._config.min_reports
    found = 0
    for attempt in range(participation.MOST_ATTEMPTS):
      who = participation.of_round(self._config, self._data, number, attempt)
      found = len(who.reporting)
      reports: Sequence[Any] = ()
      if found >= needed:
        who, reports = gather(who)
        found = len(who.reporting)
      if found >= needed:
        state, metrics = run(reports)
        found = int(metrics.accepted)
        if found >= needed:
          return state, metrics, who, attempt + 1
      self._progress.say(
        f"{self._name} round {number + 1}: {found} of {needed} reports, drawn again "
        f"({who.dropped} dropped out, {who.late} too late)"
      )
    raise InputError(
      f"--min_reports={needed}: round {number + 1} had {found} reports that count in its "
      f"last of {participation.MOST_ATTEMPTS} draws; lower it, or draw more clients with "
      "--clients_per_round"
    )

  def _movement(
    self,
    before: states.ServerState,
    after: states.ServerState,
    number: int,
    event: Optional[schedules.AdjustmentEvent],
  ) -> Optional[dict[str, Any]]:
    """Says what an adjustment moved, and holds every layer to the planned density."""
    spec = self._models.pretrained.spec
    moved = movement.count_moved(self._strategy, spec, before, after, event)
    if event is None:
      return None
    return {
      "round": number,
      "block": event.block,
      "layers": [
        {
          "name": spec.layers[i].name,
          "dropped": moved.dropped[i],
          "grown": moved.grown[i],
        }
        for i in spec.blocks[event.block]
      ],
    }


def _means(part: str, sums: Optional[Any], task: tasks.Task) -> dict[str, Any]:
  """Names the mean loss and accuracy of a part; empty where nothing was looked at."""
  loss: Any = ""
  accuracy: Any = ""
  # No example is no loss of 0, which would be the best of all.
  if sums is not None and sums.examples > 0:
    loss = _share(sums.loss_sum, sums.examples)
    if task.has_classes:
      accuracy = _share(sums.correct, sums.examples)
  return {f"{part}_loss": loss, f"{part}_accuracy": accuracy}


def _share(total: Any, count: Any) -> float:
  return round(float(total) / float(count), 6)


def _figures(row: dict[str, Any]) -> str:
  figures = "nothing trained on"
  if row["train_loss"] != "":
    figures = f"loss {row['train_loss']:.3f}"
  if row["eval_accuracy"] != "":
    figures += f", held-out accuracy {row['eval_accuracy']:.3f}"
  elif row["eval_loss"] != "":
    figures += f", held-out loss {row['eval_loss']:.3f}"
  if row["adjusted_block"] != "":
    figures += f", block {row['adjusted_block']} adjusted"
  return figures


def _ahead(
  rows: Sequence[dict[str, Any]], plan: Sequence[schedules.AdjustmentEvent]
) -> str:
  """Says the density, and which round moves masks next, counted as in progress."""
  density = f"density {rows[-1]['density']:.3g}"
  coming = next((event for event in plan if event.round_index >= len(rows)), None)
  if coming is None:
    return density
  return (
    f"{density}, masks move in round {coming.round_index + 1} (block {coming.block})"
  )
