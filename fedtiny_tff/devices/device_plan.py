"""What a device must know before its first round: `client_plan.json`.

The plan goes to devices with their model file and names it by its digest. Each message
names the plan by its own, so that nothing is taken for another run's. Neither TensorFlow
nor TFF is needed to read one.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Optional, TypeVar

from fedtiny_tff.devices.device_messages import TensorLayout, largest_bytes
from fedtiny_tff.devices.device_tasks import plain_text, whole_number
from fedtiny_tff.errors import InputError

PLAN_VERSION = 1

# As in `client_plan.schema.json`.
_DTYPES = ("float32", "float64", "int32", "int64", "uint8")
_LARGEST_NUMBER = 2**31 - 1
_LARGEST_SEED = 2**62
# Of a message, a batch, or all weights; twice what a model file for devices may have.
_MOST_BYTES = 1 << 30

_Read = TypeVar("_Read")


@dataclasses.dataclass(frozen=True)
class PlannedModel:
  """The file that devices run.

  Attributes:
    name: Name of the model.
    sha256: Digest of the file, in hexadecimal.
    input_shape: Shape of one example.
    task: `classify` or `reconstruct`.
    prunable: Prunable weights.
    active: Of these, how many are not pruned, in every mask.
    dense: Other trainable parameters.
    batch_norm: Channels of batch norm.
    position_bytes: Length of what says where active weights are; 0 where all or none
      of the weights are.
    position_low_bits: Where Elias-Fano cuts a position; 0 for a bitmap, see
      `device_positions`.
    classes: Labels are from 0 to below this; 0 where there are no classes.
  """

  name: str
  sha256: str
  input_shape: tuple[int, ...]
  task: str
  prunable: int
  active: int
  dense: int
  batch_norm: int
  position_bytes: int
  position_low_bits: int
  classes: int


@dataclasses.dataclass(frozen=True)
class PlannedBlock:
  """One block of layers whose mask is adjusted together.

  Attributes:
    layers: Their names.
    statistics: What a device sends for its adjustment, by name.
  """

  layers: tuple[str, ...]
  statistics: Mapping[str, TensorLayout]


@dataclasses.dataclass(frozen=True)
class DevicePlan:
  """Everything that stays the same over the rounds.

  Attributes:
    model: The file.
    seed: Of the run; with round and client it seeds the order of examples.
    rounds: How many there are.
    batch_size: Rows of a batch.
    local_epochs: Passes over a device's examples in a round.
    max_local_steps: Most batches of a round; 0 for no limit.
    blocks: By block.
  """

  model: PlannedModel
  seed: int
  rounds: int
  batch_size: int
  local_epochs: int
  max_local_steps: int
  blocks: tuple[PlannedBlock, ...]

  def as_json(self) -> str:
    """Returns the plan as text, the same for the same plan."""
    document = {"version": PLAN_VERSION, **dataclasses.asdict(self)}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"

  @property
  def digest(self) -> str:
    """Returns the SHA-256 of the plan, in hexadecimal."""
    return hashlib.sha256(self.as_json().encode()).hexdigest()

  def model_layouts(self) -> dict[str, TensorLayout]:
    """Returns what a model on its way to a device consists of."""
    sizes = self.model
    return {
      "active_values": TensorLayout("float32", (sizes.active,)),
      "positions": TensorLayout("uint8", (sizes.position_bytes,)),
      "dense": TensorLayout("float32", (sizes.dense,)),
      "batch_norm_mean": TensorLayout("float32", (sizes.batch_norm,)),
      "batch_norm_variance": TensorLayout("float32", (sizes.batch_norm,)),
    }

  def round_layouts(self, block: Optional[int]) -> dict[str, TensorLayout]:
    """Returns what the server sends for a round, and for the block it adjusts."""
    layers = 0 if block is None else len(self.blocks[block].layers)
    return {
      **self.model_layouts(),
      "learning_rate": TensorLayout("float32", (1,)),
      "counts": TensorLayout("int32", (layers,)),
    }

  def update_layouts(self, block: Optional[int]) -> dict[str, TensorLayout]:
    """Returns what a device sends after a round."""
    sizes = self.model
    statistics = {} if block is None else self.blocks[block].statistics
    return {
      "active_values": TensorLayout("float32", (sizes.active,)),
      "dense": TensorLayout("float32", (sizes.dense,)),
      "mean_offset": TensorLayout("float32", (sizes.batch_norm,)),
      "second_moment": TensorLayout("float32", (sizes.batch_norm,)),
      **metric_layouts(),
      "weight": TensorLayout("float32", (1,)),
      **{f"statistics.{name}": layout for name, layout in statistics.items()},
    }

  def moment_layouts(self) -> dict[str, TensorLayout]:
    """Returns what a device sends of a candidate's batch-norm inputs."""
    channels = TensorLayout("float64", (self.model.batch_norm,))
    return {"count": channels, "first": channels, "second": channels}


def hello_layouts() -> dict[str, TensorLayout]:
  """Returns what a device says of itself before it is asked for anything."""
  one = TensorLayout("int64", (1,))
  return {"training_examples": one, "held_out_examples": one}


def metric_layouts() -> dict[str, TensorLayout]:
  """Returns what a device sends of its figures."""
  one = TensorLayout("float32", (1,))
  return {"loss_sum": one, "correct": one, "examples": one}


def read_plan(text: str, where: str) -> DevicePlan:
  """Reads a plan.

  Args:
    text: The file's.
    where: Its name, for errors.

  Raises:
    InputError: When it is no plan of this version.
  """
  try:
    document = json.loads(text)
    version = document.pop("version")
    if version != PLAN_VERSION:
      raise InputError(
        f"{where}: is a plan of version {version!r}, expected {PLAN_VERSION}; export it "
        "again with this release"
      )
    return _plan(document)
  except InputError:
    raise
  except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
    raise InputError(
      f"{where}: is no plan of a device ({type(error).__name__}: {error}); take the "
      "client_plan.json beside the model file"
    ) from error


def _plan(document: dict[str, Any]) -> DevicePlan:
  """Makes a plan of what JSON knows no classes for.

  Raises:
    ValueError: When a value is none that a plan can have.
  """
  blocks = _each(document.pop("blocks"), _block)
  model = document.pop("model")
  texts = {name: plain_text(model.pop(name)) for name in ("name", "sha256", "task")}
  shape = _each(model.pop("input_shape"), _number)
  numbers = {name: _number(value) for name, value in model.items()}
  fields: dict[str, Any] = {"input_shape": shape, **texts, **numbers}
  planned = PlannedModel(**fields)
  seed = _number(document.pop("seed"), _LARGEST_SEED)
  rest = {name: _number(value) for name, value in document.items()}
  plan = DevicePlan(model=planned, blocks=blocks, seed=seed, **rest)
  _check_sizes(plan)
  return plan


def _check_sizes(plan: DevicePlan) -> None:
  """Refuses what no device could hold, before anybody tries.

  Raises:
    ValueError: Saying what is too large.
  """
  if plan.batch_size < 2:
    raise ValueError(f"batch_size is {plan.batch_size}, the least is 2")
  model = plan.model
  batch = TensorLayout("float32", (plan.batch_size, *model.input_shape))
  held = {
    "a batch": {"x": batch},
    "the model": {"prunable": TensorLayout("float32", (model.prunable,))},
    "a candidate": plan.model_layouts(),
    "an answer of moments": plan.moment_layouts(),
  }
  for number in range(len(plan.blocks)):
    held[f"an update of block {number}"] = plan.update_layouts(number)
  for what, layouts in held.items():
    size = largest_bytes(layouts)
    if size > _MOST_BYTES:
      raise ValueError(f"{what} has {size} bytes, the most are {_MOST_BYTES}")


def _block(block: Any) -> PlannedBlock:
  statistics = {
    name: TensorLayout(_dtype(layout["dtype"]), _each(layout["shape"], _number))
    for name, layout in block["statistics"].items()
  }
  return PlannedBlock(_each(block["layers"], plain_text), statistics)


def _dtype(value: Any) -> str:
  if value not in _DTYPES:
    raise ValueError(f"{value!r} is no type of a message's numbers")
  return plain_text(value)


def _number(value: Any, largest: int = _LARGEST_NUMBER) -> int:
  if whole_number(value) > largest:
    raise ValueError(f"{value} is more than {largest}")
  return whole_number(value)


def _each(values: Any, read: Callable[[Any], _Read]) -> tuple[_Read, ...]:
  # Texts and objects can be walked through, too.
  if not isinstance(values, list):
    raise ValueError(f"{values!r} is no list")
  return tuple(map(read, values))
