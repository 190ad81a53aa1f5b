"""What a device does until it is finished: look, check, compute, answer.

Whatever arrives is checked before it is used; what is not as it must be is refused in one
line, and looked for again. Neither TensorFlow nor TFF is imported.
"""

import collections
import dataclasses
import time
from collections.abc import Callable
from typing import Optional

from fedtiny_tff.devices import device_messages, device_plan, device_tasks
from fedtiny_tff.devices.device_plan import DevicePlan
from fedtiny_tff.devices.device_tasks import DeviceTask
from fedtiny_tff.errors import InputError
from pipelines.apps import redaction
from pipelines.apps.plain_progress import PlainProgress, Steps
from pipelines.devices import device_questions
from pipelines.devices.device_examples import OwnExamples
from pipelines.devices.device_exchange import Exchange, Final, Unreachable, Unwanted
from pipelines.devices.device_patience import Patience
from pipelines.devices.device_questions import Question, check_digest
from tflite_export.device_training.device_runtime import DeviceRuntime

_LARGEST_MODEL_BYTES = 512 << 20
# The same message has the same answer: who deletes it this often will not take it.
_MOST_TRIES = 3
_LINES_REMEMBERED = 100
# From look to look whether something is still asked for while it is computed.
_LOOK_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Device:
  """Who computes.

  Attributes:
    client: Number of the client.
    examples: Its own.
    threads: Of LiteRT.
  """

  client: int
  examples: OwnExamples
  threads: int = 1


@dataclasses.dataclass
class Totals:
  """What a device has done.

  Attributes:
    rounds: Rounds trained.
    answers: Messages sent.
    computing_seconds: Seconds that LiteRT took for them.
  """

  rounds: int = 0
  answers: int = 0
  computing_seconds: float = 0.0


class DeviceWork:
  """A device at work on an exchange."""

  def __init__(
    self,
    device: Device,
    exchange: Exchange,
    patience: Patience,
    progress: PlainProgress,
  ):
    """Has neither plan nor model yet.

    Args:
      device: Who computes.
      exchange: Where messages come from and go to.
      patience: How it waits.
      progress: Where it tells what it does.
    """
    self.totals = Totals()
    self._device = device
    self._exchange = exchange
    self._patience = patience
    self._progress = progress
    self._plan: Optional[DevicePlan] = None
    self._runtime: Optional[DeviceRuntime] = None
    self._seen = b""
    self._tries: collections.Counter[str] = collections.Counter()
    self._told: collections.deque[str] = collections.deque(maxlen=_LINES_REMEMBERED)

  def run(self) -> None:
    """Works until the server says that all is finished.

    Raises:
      Final: When it cannot go on, or nothing came for too long.
    """
    while True:
      try:
        task = self._task()
        if task is not None and self._is_done(task):
          return
        self._patience.rest()
      except Unreachable as error:
        self._patience.back_off(str(error))
      except Final:
        raise
      except InputError as error:
        self._refuse(error)
        self._patience.back_off()

  def _refuse(self, error: InputError) -> None:
    """Says once what is wrong; texts may be anybody's."""
    line = redaction.line(str(error))
    if line not in self._told:
      self._told.append(line)
      self._progress.warn(f"refused: {line}")

  def _task(self) -> Optional[DeviceTask]:
    """Returns what is asked for now, if anything is."""
    content = self._exchange.read(
      device_tasks.TASK_PATH, device_tasks.LARGEST_TASK_BYTES
    )
    if content is None:
      return None
    task = device_tasks.read_task(
      content.decode(errors="replace"), device_tasks.TASK_PATH
    )
    if content != self._seen:
      self._seen = content
      self._tries.clear()
      self._patience.news()
    return task

  def _is_done(self, task: DeviceTask) -> bool:
    """Does what is asked for; returns whether that was the last."""
    is_finished = task.work == device_tasks.FINISHED
    if not is_finished and self._device.client not in task.clients:
      return False
    plan = self._planned(task)
    if plan is None or is_finished:
      return is_finished and plan is not None
    runtime = self._loaded(plan)
    if runtime is None:
      return False
    self._answer_all(task, plan, runtime)
    return False

  def _answer_all(
    self, task: DeviceTask, plan: DevicePlan, runtime: DeviceRuntime
  ) -> None:
    """Answers what has no answer yet, as long as it is asked for.

    Raises:
      InputError: When a message was refused, after all others were answered.
    """
    problem: Optional[InputError] = None
    looked = time.monotonic()
    messages = (None,) if task.work == device_tasks.HELLO else task.messages
    for message in messages:
      question = Question(task, message)
      if time.monotonic() - looked >= _LOOK_SECONDS:
        looked = time.monotonic()
        if not self._is_still_asked(question):
          return
      try:
        self._answer(question, plan, runtime)
      except Final:
        raise
      except InputError as error:
        self._refuse(error)
        problem = error
    # So that the next look comes later.
    if problem is not None:
      raise problem

  def _planned(self, task: DeviceTask) -> Optional[DevicePlan]:
    """Returns a task's plan, None where there is none yet.

    Raises:
      InputError: When the plan that is there is another.
    """
    if self._plan is None or self._plan.digest != task.plan:
      content = self._exchange.read(
        device_tasks.PLAN_PATH, device_tasks.LARGEST_PLAN_BYTES
      )
      if content is None:
        return None
      plan = device_plan.read_plan(
        content.decode(errors="replace"), device_tasks.PLAN_PATH
      )
      if plan.digest != task.plan:
        raise InputError(
          f"{device_tasks.TASK_PATH}: belongs to plan {task.plan[:12]}, the plan that is "
          f"there is {plan.digest[:12]}; let the server write both again"
        )
      self._plan, self._runtime = plan, None
    return self._plan

  def _loaded(self, plan: DevicePlan) -> Optional[DeviceRuntime]:
    """Returns the plan's model, loaded; None where there is none yet."""
    if self._runtime is not None:
      return self._runtime
    path = device_tasks.MODEL_PATH
    content = self._exchange.read(path, _LARGEST_MODEL_BYTES)
    if content is None:
      return None
    check_digest(path, content, plan.model.sha256, "the plan")
    device = self._device
    try:
      self._runtime = DeviceRuntime(
        content, plan, device.client, *device.examples, threads=device.threads
      )
    except InputError as error:
      raise Final(f"--data: {error}") from error
    # LiteRT has no errors of its own.
    except (ValueError, RuntimeError) as error:
      raise InputError(
        f"{path}: LiteRT cannot load it ({error}); run the same release on both sides"
      ) from error
    self._progress.say(
      f"client {device.client}: model {plan.model.name}, {len(content):,} bytes; "
      f"{len(device.examples.training)} examples to train on, "
      f"{len(device.examples.held_out)} held out"
    )
    return self._runtime

  def _answer(
    self, question: Question, plan: DevicePlan, runtime: DeviceRuntime
  ) -> None:
    """Answers one of the server's messages, unless that was done.

    Raises:
      InputError: When the message is not what it must be.
    """
    path = question.answer_path(self._device.client)
    if self._tries[path] >= _MOST_TRIES or self._exchange.exists(path):
      return
    sent = self._sent(question, plan)
    if sent is None:
      return
    begun = time.monotonic()
    try:
      content = self._computed(question, runtime, sent)
    except Unwanted:
      self._progress.say(f"{question}: no longer asked for")
      return
    except InputError:
      # Nothing else would come of it.
      self._tries[path] = _MOST_TRIES
      raise
    finally:
      # Time that was computed in was not waited.
      self._patience.news()
    spent = time.monotonic() - begun
    if self._deliver(question, path, content):
      self._count(question, plan, content, spent)

  def _sent(self, question: Question, plan: DevicePlan) -> Optional[bytes]:
    """Returns the server's message, None where it is not there."""
    if question.message is None:
      return b""
    layouts = device_questions.layouts(question, plan)
    path = question.sent_path
    content = self._exchange.read(path, device_messages.largest_bytes(layouts))
    if content is not None:
      check_digest(path, content, question.message.sha256, "the task")
    return content

  def _computed(self, question: Question, runtime: DeviceRuntime, sent: bytes) -> bytes:
    number, block = question.number, question.task.block
    ways: dict[str, Callable[[], bytes]] = {
      device_tasks.HELLO: runtime.hello,
      device_tasks.MEASURE: lambda: runtime.measure(sent, number),
      device_tasks.SCORE: lambda: runtime.score(sent, number),
      device_tasks.EVALUATE: lambda: runtime.evaluate(sent, number),
      device_tasks.TRAIN: lambda: runtime.train(
        sent, number, block, self._following(question)
      ),
    }
    try:
      return ways[question.task.work]()
    except (ValueError, RuntimeError) as error:
      if isinstance(error, InputError):
        raise
      raise InputError(
        f"{question}: LiteRT cannot compute it ({error}); run the same release on both "
        "sides"
      ) from error

  def _following(self, question: Question) -> Callable[[int, int], None]:
    """Returns what is told of every step, and stops what nobody asks for any more."""
    begun = looked = time.monotonic()
    steps: Optional[Steps] = None

    def follow(done: int, total: int) -> None:
      nonlocal steps, looked
      steps = steps or Steps(self._progress, f"{question}: step", total, 0)
      now = time.monotonic()
      steps.advance(f"{1e3 * (now - begun) / done:.1f} ms a step")
      if now - looked >= _LOOK_SECONDS and done < total:
        looked = now
        if not self._is_still_asked(question):
          raise Unwanted(str(question))

    return follow

  def _is_still_asked(self, question: Question) -> bool:
    try:
      task = self._task()
    except (Unreachable, InputError):
      return True
    return task is not None and question.is_in(task, self._device.client)

  def _deliver(self, question: Question, path: str, content: bytes) -> bool:
    """Writes an answer, as often as it takes; returns whether it was wanted."""
    while True:
      try:
        self._exchange.write(path, content)
        break
      except Unreachable as error:
        self._patience.back_off(str(error))
      except Unwanted:
        self._progress.say(f"{question}: no longer asked for")
        return False
      except InputError:
        self._tries[path] = _MOST_TRIES
        raise
    self._tries[path] += 1
    self._patience.news()
    return True

  def _count(
    self, question: Question, plan: DevicePlan, content: bytes, spent: float
  ) -> None:
    """Adds to the totals, and says what came of it."""
    self.totals.answers += 1
    self.totals.computing_seconds += spent
    figures = ""
    if question.task.work == device_tasks.TRAIN:
      self.totals.rounds += 1
      figures = f"{device_questions.figures(content, plan)}, "
    self._progress.say(
      f"{question}: answered, {figures}{len(content):,} bytes, {spent:.2f} s"
    )
