"""Rounds whose computation is scripted: nothing is trained, everything else is real."""

import contextlib
import io
import pathlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rich.console

from fedtiny_tff import tasks
from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.federated import messages, states
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base
from pipelines.apps.progress import Progress
from pipelines.runs import metrics_log, state_store
from pipelines.training import round_clients, rounds_stage
from tests.fedtiny_tff.support import spec_of_sizes
from tests.pipelines import support

# Two layers of four weights, a block each.
SPEC = spec_of_sizes(4, 4)
START = np.array([1, 1, 0, 0, 1, 1, 0, 0], bool)


def weights(value: float) -> ModelWeights:
  """Returns weights that are all the same, of a model with batch norm."""
  vector = np.full(8, value, np.float32)
  return ModelWeights(
    vector, np.zeros(1, np.float32), np.zeros(2, np.float32), np.ones(2, np.float32)
  )


def state(
  value: float = 0.0, mask: np.ndarray = START, memory: tuple[Any, ...] = ()
) -> states.ServerState:
  """Returns what the first round starts from."""
  return states.ServerState(weights(value), mask, np.int32(0), memory)


class Builder:
  """Adds 1 to every weight a round; an event swaps one weight of its block.

  One that does not grow only drops it. Events add 1 to what is remembered.
  """

  def __init__(self, events):
    self._events = {event.round_index: event for event in events}
    self.rounds = []
    self.rates = []
    self.masks = []
    self.wrong_layer = None
    self.excluded = 0
    self.examples = 4

  @property
  def events(self):
    return tuple(self._events.values())

  def event(self, number):
    return self._events.get(number)

  def instruction(self, number, learning_rate):
    return (number, learning_rate)

  def computation(self, number, mask):
    self.masks.append(np.array(mask))

    def advance(state, clients, instruction):
      assert instruction[0] == number
      self.rates.append(instruction[1])
      self.rounds.append((number, [int(c.client) for c in clients]))
      mask, memory = np.array(state.mask), state.memory
      event = self.event(number)
      if event:
        first = 4 * event.block
        mask[[first, first + 2]] = mask[[first + 2, first]]
        mask[first + 2] &= event.grows
        memory = tuple(each + each.dtype.type(1) for each in memory)
      if self.wrong_layer == number:
        mask[0] = not mask[0]
      value = state.weights.prunable[0] + 1
      part = self.examples / 4
      counted = len(clients) - self.excluded
      sums = 6 * part, part, self.examples, counted, self.excluded, 0, 0
      metrics = messages.RoundMetrics(*map(np.float32, sums))
      new = states.ServerState(weights(value), mask, np.int32(number + 1), memory)
      return new, metrics

    block = self.event(number).block if self.event(number) else None
    upload = 100 if block is None else 100 + 8
    return types.SimpleNamespace(
      run=advance, upload_bytes=upload, download_bytes=50, secure_extra_bytes=0
    )


class Swaps(base.Strategy):
  """Has the events of a test; the hooks of rounds can be set."""

  def __init__(self, events):
    self._events = events

  def plan_events(self, spec, active_counts, config):
    return self._events


def make_world(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
  """A phase factory over one folder; built phases share the scripted builder."""
  events = (
    schedules.AdjustmentEvent(1, 1, (1,)),
    schedules.AdjustmentEvent(3, 0, (1,)),
  )
  builder = Builder(events)
  monkeypatch.setattr(rounds_stage.rounds, "RoundBuilder", lambda *a, **k: builder)
  evaluated, built = [], []
  # Rounds, counted from 1, after which nobody has anything to evaluate.
  unmeasured: set[float] = set()

  def evaluate(state, clients):
    evaluated.append(float(state.model.active_values[0]))
    part = 0 if evaluated[-1] in unmeasured else 1
    return tasks.Metrics(*(np.float32(part * each) for each in (2, 3, 4)))

  def build_evaluation(*arguments, active_count, batch_size, secure):
    built.append(active_count)
    return evaluate

  monkeypatch.setattr(round_clients.evaluation, "build_evaluation", build_evaluation)
  references = np.array([[k, 0, 5, 2] for k in range(4)], np.int64)
  data: Any = types.SimpleNamespace(
    references=references,
    clients=None,
    reference=lambda k: ClientReference(*references[k]),
    info=types.SimpleNamespace(num_classes=2),
  )
  strategy = Swaps(events)
  definition: Any = types.SimpleNamespace(spec=SPEC, task=tasks.CLASSIFY)
  full: Any = types.SimpleNamespace(spec=SPEC)
  console = rich.console.Console(file=io.StringIO(), soft_wrap=True)

  def phase(**changes):
    return rounds_stage.Phase(
      "sparse",
      support.make_config(**{"rounds": 5, "eval_every_rounds": 2, **changes}),
      data,
      base.ModelPlan(full, definition, definition, strategy),
      state_store.StateStore(tmp_path / "state"),
      metrics_log.MetricsLog(tmp_path / "metrics.csv"),
      Progress(console),
    )

  return types.SimpleNamespace(
    phase=phase, builder=builder, evaluated=evaluated, data=data, path=tmp_path,
    definition=definition, full=full, strategy=strategy, built=built,
    unmeasured=unmeasured,
  )  # fmt: skip


@contextlib.contextmanager
def interrupted_in(
  world: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> Iterator[None]:
  """Interrupts what is run within at the beginning of a round."""
  advance = world.builder.computation

  def computation(round_index, mask):
    if round_index == number:
      raise KeyboardInterrupt
    return advance(round_index, mask)

  with monkeypatch.context() as patch:
    patch.setattr(world.builder, "computation", computation)
    with pytest.raises(KeyboardInterrupt):
      yield
