"""`--profile`: where a round's time goes, and TensorFlow's own profile of it.

The driver's stages are timed around what it calls. Calls to the worker are timed on the
wire (gRPC): of a stage, what is left is the driver's own work, such as TFF's compiler and
the coding of tensors. What happens inside the worker cannot be told apart from here,
since its binary has no profiler; so one client's training is repeated in the driver
(`client_profile`), and the worker's CPU time is told.
"""

import contextlib
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import grpc
import psutil
import rich.console
import rich.table
import tensorflow as tf

from fedtiny_tff.errors import InputError
from pipelines.apps import damage, files

# Calls that only bring values to the worker; others wait for it to compute.
_SENDING = ("CreateValue",)
_DOCUMENT = "profile.json"
_DRIVER, _SENT, _WORKER = "driver", "sending to the worker", "worker"


class _Call(NamedTuple):
  """One call to the worker.

  Attributes:
    start: When it began, as `time.monotonic`.
    end: When its answer was there.
    is_sending: Whether it only brought a value.
    sent_bytes: Of the request.
    received_bytes: Of the response.
  """

  start: float
  end: float
  is_sending: bool
  sent_bytes: int
  received_bytes: int


class _Wire(grpc.UnaryUnaryClientInterceptor):
  """Times every call to the worker."""

  def __init__(self) -> None:
    """Begins with no calls."""
    self.calls: list[_Call] = []
    self.is_on = False

  def intercept_unary_unary(
    self, continuation: Any, client_call_details: Any, request: Any
  ) -> Any:
    """Makes a call and notes it; see `grpc.UnaryUnaryClientInterceptor`."""
    if not self.is_on:
      return continuation(client_call_details, request)
    start = time.monotonic()
    outcome = continuation(client_call_details, request)
    response = outcome.result() if outcome.code() is grpc.StatusCode.OK else None
    end = time.monotonic()
    method = client_call_details.method
    method = method.decode() if isinstance(method, bytes) else method
    self.calls.append(
      _Call(
        start, end, method.rsplit("/", 1)[-1] in _SENDING, request.ByteSize(),
        response.ByteSize() if response is not None else 0,
      )
    )  # fmt: skip
    return outcome


class RoundProfile:
  """Times the stages of some rounds; does nothing in others."""

  def __init__(self, rounds: int = 0, folder: Optional[pathlib.Path] = None):
    """Plans what to profile.

    Args:
      rounds: How many; 0 for none.
      folder: Where TensorFlow's profile goes.
    """
    self._wanted = rounds
    self._folder = folder
    self._wire = _Wire()
    self._seconds: dict[tuple[str, str], float] = {}
    self._rounds: list[int] = []
    self._is_on = False
    self._is_tracing = False
    self._begun_rounds = 0
    self._cpu: dict[str, float] = {}
    self._total_seconds = 0.0

  @property
  def interceptors(self) -> tuple[grpc.UnaryUnaryClientInterceptor, ...]:
    """What the channel to the worker is to be observed with."""
    return (self._wire,) if self._wanted else ()

  @contextlib.contextmanager
  def round(self, number: int, left: int) -> Iterator[None]:
    """Profiles a round, if it is one to profile.

    The first of a process is passed over where enough are left: it builds what the
    others use.

    Args:
      number: The round.
      left: Rounds until the end, with this one.
    """
    self._begun_rounds += 1
    passed_over = self._begun_rounds == 1 and left > self._wanted
    if len(self._rounds) >= self._wanted or passed_over:
      yield
      return
    self._begin_trace()
    try:
      with self._timed(), tf.profiler.experimental.Trace("round", step_num=number):
        yield
    except BaseException:
      self.stop(save=False)
      raise
    self._rounds.append(number)
    if len(self._rounds) == self._wanted:
      self.stop()

  def _begin_trace(self) -> None:
    if not self._is_tracing:
      assert self._folder is not None
      tf.profiler.experimental.start(str(self._folder / "rounds"))
      self._is_tracing = True

  def stop(self, save: bool = True) -> None:
    """Ends TensorFlow's profile, if it has not ended; rounds may be fewer than asked."""
    if self._is_tracing:
      self._is_tracing = False
      tf.profiler.experimental.stop(save)

  @contextlib.contextmanager
  def _timed(self) -> Iterator[None]:
    before, start = _cpu_seconds(), time.monotonic()
    self._is_on = self._wire.is_on = True
    try:
      yield
    finally:
      self._is_on = self._wire.is_on = False
    self._total_seconds += time.monotonic() - start
    for who, seconds in _cpu_seconds().items():
      used = seconds - before.get(who, 0.0)
      self._cpu[who] = self._cpu.get(who, 0.0) + used

  @contextlib.contextmanager
  def stage(self, name: str) -> Iterator[None]:
    """Times a part of a round."""
    if not self._is_on:
      yield
      return
    start, first = time.monotonic(), len(self._wire.calls)
    with tf.profiler.experimental.Trace(name):
      yield
    spent = time.monotonic() - start
    calls = self._wire.calls[first:]
    waiting = _covered([call for call in calls if not call.is_sending])
    sending = _covered(calls) - waiting
    for where, seconds in (
      (_DRIVER, spent - waiting - sending), (_SENT, sending), (_WORKER, waiting),
    ):  # fmt: skip
      self._seconds[name, where] = self._seconds.get((name, where), 0.0) + seconds

  def document(self) -> dict[str, Any]:
    """Returns what was found, means a round, as `profile.json` holds it."""
    count = max(len(self._rounds), 1)
    rest = self._total_seconds - sum(self._seconds.values())
    parts = [*self._seconds.items(), (("everything else", _DRIVER), rest)]
    return {
      "rounds": self._rounds,
      "seconds_per_round": self._total_seconds / count,
      "parts": [
        {
          "stage": stage,
          "where": where,
          "seconds_per_round": seconds / count,
          "share": seconds / self._total_seconds if self._total_seconds else 0.0,
        }
        for (stage, where), seconds in parts
        if where == _DRIVER or seconds > 0.0
      ],
      "cpu_seconds_per_round": {who: spent / count for who, spent in self._cpu.items()},
      "bytes_to_worker_per_round": sum(c.sent_bytes for c in self._wire.calls) / count,
      "bytes_from_worker_per_round": (
        sum(c.received_bytes for c in self._wire.calls) / count
      ),
    }


NOTHING = RoundProfile()


def _covered(calls: list[_Call]) -> float:
  """Returns the seconds during which at least one of the calls was under way."""
  seconds, until = 0.0, 0.0
  for call in sorted(calls):
    seconds += max(0.0, call.end - max(call.start, until))
    until = max(until, call.end)
  return seconds


def _cpu_seconds() -> dict[str, float]:
  process = psutil.Process()
  own = process.cpu_times()
  found = {_DRIVER: own.user + own.system, _WORKER: 0.0}
  for child in process.children(recursive=True):
    with contextlib.suppress(psutil.NoSuchProcess):
      times = child.cpu_times()
      found[_WORKER] += times.user + times.system
  return found


def write(folder: pathlib.Path, document: dict[str, Any]) -> None:
  """Writes `profile.json`."""
  files.write_text(folder / _DOCUMENT, json.dumps(document, indent=2) + "\n")


def read(folder: pathlib.Path) -> Optional[dict[str, Any]]:
  """Reads `profile.json`; None where no round was profiled.

  Raises:
    InputError: When it is damaged.
  """
  path = folder / _DOCUMENT
  if not path.exists():
    return None
  try:
    document: dict[str, Any] = damage.parsed(path.read_text())
    # Whatever is wrong with it shows here.
    _table(document), _lines(document)
  except damage.FORM as error:
    raise InputError(
      f"{path}: is no profile ({type(error).__name__}: {error}); restore it, or delete "
      "it to do without"
    ) from error
  return document


def show(document: dict[str, Any], console: rich.console.Console) -> None:
  """Prints the table of a `profile.json`."""
  console.print(_table(document))
  for line in _lines(document):
    console.print(line, highlight=False, soft_wrap=True)


def _table(document: dict[str, Any]) -> rich.table.Table:
  rounds = document["rounds"]
  table = rich.table.Table(
    title=f"where the time of a round goes (rounds {rounds[0]} to {rounds[-1]})"
  )
  for heading in ("stage", "where"):
    table.add_column(heading)
  for heading in ("ms a round", "share"):
    table.add_column(heading, justify="right")
  for part in document["parts"]:
    milliseconds = 1e3 * part["seconds_per_round"]
    table.add_row(
      str(part["stage"]),
      str(part["where"]),
      f"{milliseconds:,.1f}",
      f"{100 * part['share']:.1f} %",
    )
  total = 1e3 * document["seconds_per_round"]
  table.add_row("all", "", f"{total:,.1f}", "100.0 %", end_section=True)
  return table


def _lines(document: dict[str, Any]) -> list[str]:
  """Returns what is told below the table."""
  cpu = ", ".join(
    f"{who} {1e3 * seconds:,.0f} ms"
    for who, seconds in document["cpu_seconds_per_round"].items()
  )
  up, down = (document[f"bytes_{way}_worker_per_round"] for way in ("to", "from"))
  lines = [
    f"CPU time a round: {cpu}",
    f"Wire to the worker: {up:,.0f} bytes, back {down:,.0f}",
  ]
  client = document.get("client")
  if client:
    lines.append(
      f"One client's training, repeated in the driver: {1e3 * client['seconds']:,.1f} ms "
      f"for {client['examples']:,} examples"
    )
  return lines
