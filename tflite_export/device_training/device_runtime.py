"""What a device does with a message: decode, compute in LiteRT, and answer.

NumPy and LiteRT alone: neither TensorFlow nor TFF is imported.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Optional

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array
from fedtiny_tff.devices import device_messages, device_positions, device_tasks, philox
from fedtiny_tff.devices.device_messages import Envelope, TensorLayout
from fedtiny_tff.devices.device_plan import DevicePlan, metric_layouts
from fedtiny_tff.errors import InputError
from tflite_export import native_output

_FILLED_UP = -1
# What `get_weights` takes, as no signature is without an input.
NO_INPUT = {"unused": np.zeros(1, np.float32)}

Tensors = dict[str, Array]
# Is told how many of how many steps are done.
Steps = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class DeviceExamples:
  """A device's own data, as the model is fed with them.

  Attributes:
    inputs: float32 [n, ...].
    labels: int32 [n].
  """

  inputs: Array
  labels: Array

  def __len__(self) -> int:
    """Returns the number of examples."""
    return len(self.labels)

  def batch(self, rows: Array, size: int) -> Tensors:
    """Gathers some rows, filled up to a size with rows that do not count."""
    missing = size - len(rows)
    inputs = np.pad(
      self.inputs[rows], [(0, missing), *[(0, 0)] * (self.inputs.ndim - 1)]
    )
    labels = np.pad(self.labels[rows], (0, missing), constant_values=_FILLED_UP)
    return {"x": inputs, "y": labels}


class DeviceRuntime:
  """One device: its model file, its plan and its data."""

  def __init__(
    self,
    content: bytes,
    plan: DevicePlan,
    client: int,
    training: DeviceExamples,
    held_out: DeviceExamples,
    threads: int = 1,
  ):
    """Loads the model file.

    Args:
      content: The file.
      plan: What belongs to it.
      client: Which device this is, from 0.
      training: What it trains on.
      held_out: What it scores candidates on.
      threads: Of LiteRT.

    Raises:
      InputError: When file and plan, or data and plan, do not fit one another.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != plan.model.sha256:
      raise InputError(
        f"the model file's digest is {found[:12]}, the plan names "
        f"{plan.model.sha256[:12]}; take both from the same export"
      )
    for name, examples in (("training", training), ("held-out", held_out)):
      if examples.inputs.shape != (len(examples), *plan.model.input_shape):
        raise InputError(
          f"{name} inputs are {list(examples.inputs.shape)}, {len(examples)} labels "
          f"and the plan ask for {[len(examples), *plan.model.input_shape]}; prepare "
          "the data as the model is fed with them"
        )
      if (classes := plan.model.classes) and (examples.labels >= classes).any():
        raise InputError(
          f"{name} labels go up to {examples.labels.max()}, the model has the classes 0 "
          f"to {classes - 1}; prepare the data with the run's own classes"
        )
    self._plan = plan
    self._client = client
    self._training = training
    self._held_out = held_out
    # LiteRT tells once, when it prepares the first function, that it does so.
    with native_output.captured_stderr():
      self._interpreter = Interpreter(model_content=content, num_threads=threads)
      self._interpreter.allocate_tensors()

  def train(
    self, message: bytes, round_index: int, block: Optional[int], steps: Steps
  ) -> bytes:
    """Trains for a round.

    Args:
      message: The server's, of kind `round`.
      round_index: Which round it must be of.
      block: The block whose mask is adjusted after it; None for no adjustment.
      steps: Is told after every step.

    Returns:
      A message of kind `update`.

    Raises:
      InputError: When the message is another, or the device has no example.
    """
    received = self._read(
      message, "round", round_index, self._plan.round_layouts(block)
    )
    if not len(self._training):
      raise InputError(
        f"client {self._client} has no example to train on; leave it out"
      )
    self._set(received)
    rate = {"learning_rate": received["learning_rate"]}
    sums: Tensors = {}
    statistics = self._empty_statistics(block)
    batches = list(self._training_batches(round_index))
    for number, rows in enumerate(batches, start=1):
      batch = self._training.batch(rows, self._plan.batch_size)
      if number == len(batches) and any(each.size for each in statistics.values()):
        counts = {"counts": received["counts"]}
        statistics |= self._call(f"top_gradients_{block}", {**batch, **counts})
      _add(sums, self._call("train", {**batch, **rate}))
      steps(number, len(batches))
    # What the model has none of does not come back.
    trained = {**received, **self._call("get_weights", {})}
    offset = trained["batch_norm_mean"] - received["batch_norm_mean"]
    return self._write("update", round_index, message, {
      "active_values": trained["active_values"],
      "dense": trained["dense"],
      "mean_offset": offset,
      "second_moment": trained["batch_norm_variance"] + np.square(offset),
      "weight": np.array([len(self._training)], np.float32),
      **sums,
      **{f"statistics.{name}": value for name, value in statistics.items()},
    })  # fmt: skip

  def _empty_statistics(self, block: Optional[int]) -> Tensors:
    """Returns what is sent of a block, in its shapes."""
    layouts = {} if block is None else self._plan.blocks[block].statistics
    return {name: np.zeros(each.shape, each.dtype) for name, each in layouts.items()}

  def measure(self, message: bytes, candidate: int) -> bytes:
    """Sums the inputs of every batch norm under a candidate's mask.

    Args:
      message: The server's, of kind `candidate`; its round is the candidate's number.
      candidate: Which it must be.

    Returns:
      A message of kind `moments`.
    """
    received = self._read(message, "candidate", candidate, self._plan.model_layouts())
    self._set(received)
    sums: Tensors = {}
    # A file without batch norm has no function for it.
    measured = len(self._held_out) if self._plan.model.batch_norm else 0
    for rows in _in_order(measured, self._plan.batch_size, joins=True):
      batch = self._held_out.batch(rows, self._plan.batch_size + 1)
      found = self._call("bn_statistics", batch)
      _add(sums, {name: value.astype(np.float64) for name, value in found.items()})
    nothing = np.zeros(self._plan.model.batch_norm)
    empty = {name: nothing for name in self._plan.moment_layouts()}
    return self._write("moments", candidate, message, sums or empty)

  def score(self, message: bytes, candidate: int) -> bytes:
    """Evaluates a candidate under the batch-norm statistics that all clients pooled.

    Args:
      message: The server's, of kind `scoring`: the candidate with those statistics.
      candidate: Which it must be.

    Returns:
      A message of kind `score`.
    """
    return self._evaluated(message, "scoring", "score", candidate)

  def evaluate(self, message: bytes, round_index: int) -> bytes:
    """Evaluates the model that a round ended with.

    Args:
      message: The server's, of kind `evaluation`.
      round_index: Which round it must be of.

    Returns:
      A message of kind `figures`.
    """
    return self._evaluated(message, "evaluation", "figures", round_index)

  def hello(self) -> bytes:
    """Returns a message of kind `hello`: how many examples this device has."""
    counts = {
      "training_examples": np.array([len(self._training)], np.int64),
      "held_out_examples": np.array([len(self._held_out)], np.int64),
    }
    envelope = Envelope("hello", self._plan.digest, 0, self._client)
    return device_messages.write(envelope, counts)

  def _evaluated(self, message: bytes, kind: str, answer: str, number: int) -> bytes:
    received = self._read(message, kind, number, self._plan.model_layouts())
    self._set(received)
    sums: Tensors = {}
    for rows in _in_order(len(self._held_out), self._plan.batch_size):
      batch = self._held_out.batch(rows, self._plan.batch_size)
      _add(sums, self._call("evaluate", batch))
    empty = {name: np.zeros(1, np.float32) for name in metric_layouts()}
    return self._write(answer, number, message, sums or empty)

  def _training_batches(self, round_index: int) -> Iterator[Array]:
    """Yields the rows of each batch, in the simulation's order."""
    plan = self._plan
    first, second = seeds.stateless(plan.seed).tolist()
    of_round = philox.fold_in((first, second), round_index)
    seed = philox.fold_in(philox.fold_in(of_round, self._client), 0)
    orders = philox.shuffled_order(len(self._training), plan.local_epochs, seed)
    left = plan.max_local_steps or len(orders.reshape(-1))
    for order in orders:
      for start in range(0, len(order), plan.batch_size):
        if not left:
          return
        left -= 1
        yield order[start : start + plan.batch_size]

  def _set(self, received: Tensors) -> None:
    mask = device_positions.decode_mask(received["positions"], self._plan.model)
    names = ("active_values", "dense", "batch_norm_mean", "batch_norm_variance")
    weights = {name: received[name] for name in names}
    self._call("set_weights", {**weights, "mask": np.packbits(mask)})

  def _call(self, name: str, inputs: Tensors) -> Tensors:
    return dict(self._interpreter.get_signature_runner(name)(**(inputs or NO_INPUT)))

  def _read(
    self, message: bytes, kind: str, number: int, layouts: Mapping[str, TensorLayout]
  ) -> Tensors:
    return device_messages.read(
      message, Envelope(kind, self._plan.digest, number), layouts
    )

  def _write(self, kind: str, number: int, message: bytes, tensors: Tensors) -> bytes:
    digest = device_tasks.message_digest(message)
    envelope = Envelope(kind, self._plan.digest, number, self._client, digest)
    return device_messages.write(envelope, tensors)


def _in_order(count: int, size: int, joins: bool = False) -> Iterator[Array]:
  """Yields rows batch by batch; a last one alone may join the batch before it."""
  start = 0
  while start < count:
    stop = min(start + size, count)
    if joins and count - stop == 1:
      stop = count
    yield np.arange(start, stop)
    start = stop


def _add(sums: Tensors, found: Tensors) -> None:
  for name, value in found.items():
    sums[name] = sums[name] + value if name in sums else value
