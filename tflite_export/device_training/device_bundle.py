"""A run's client for devices: the model file and the plan that belongs to it."""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import Optional

from fedtiny_tff.devices.device_messages import TensorLayout
from fedtiny_tff.devices.device_plan import DevicePlan, PlannedBlock, PlannedModel
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import training
from fedtiny_tff.model_structure import definition
from fedtiny_tff.sparsity import positions
from tflite_export.device_training.device_file import device_file
from tflite_export.device_training.device_model import (
  DeviceBlock,
  DeviceModel,
  DeviceTraining,
)


@dataclasses.dataclass(frozen=True)
class BlockRequest:
  """What a device sends for the adjustment of a block.

  Attributes:
    block: What it computes; None where all that comes of it is empty.
    layouts: What comes of it, by name.
  """

  block: Optional[DeviceBlock]
  layouts: dict[str, TensorLayout]


@dataclasses.dataclass(frozen=True)
class DeviceRequest:
  """What devices are to do in a run.

  Attributes:
    definition: The model that they train.
    training: How.
    active: Active weights of every mask.
    blocks: By block; None, or left out at the end, where it is never adjusted.
    rounds: Rounds of the run.
    seed: Seed of the run.
  """

  definition: definition.ModelDefinition
  training: training.TrainingConfig
  active: int
  blocks: Sequence[Optional[BlockRequest]]
  rounds: int
  seed: int


@dataclasses.dataclass(frozen=True)
class DeviceBundle:
  """What a device gets once.

  Attributes:
    content: The `.tflite` file.
    plan: Its plan.
  """

  content: bytes
  plan: DevicePlan


def make_bundle(request: DeviceRequest) -> DeviceBundle:
  """Builds, converts and describes.

  Raises:
    InputError: When devices cannot do what is asked for.
  """
  check_request(request)
  config = request.training
  model = DeviceModel(
    request.definition,
    DeviceTraining(
      config.optimizer,
      config.batch_size,
      request.active,
      tuple(each.block if each else None for each in request.blocks),
    ),
  )
  content = device_file(model.variables, model.functions())
  sizes = model.sizes
  code = positions.smallest_code(sizes.prunable, request.active)
  planned = PlannedModel(
    name=request.definition.name,
    sha256=hashlib.sha256(content).hexdigest(),
    input_shape=model.input_shape,
    task=request.definition.task.name,
    prunable=sizes.prunable,
    active=request.active,
    dense=sizes.dense,
    batch_norm=sizes.batch_norm_mean,
    position_bytes=code.encoded_bytes,
    position_low_bits=code.low_bits or 0,
    classes=model.classes,
  )
  return DeviceBundle(content, DevicePlan(
    model=planned,
    seed=request.seed,
    rounds=request.rounds,
    batch_size=config.batch_size,
    local_epochs=config.local_epochs,
    max_local_steps=config.max_local_steps,
    blocks=_planned_blocks(request),
  ))  # fmt: skip


def _planned_blocks(request: DeviceRequest) -> tuple[PlannedBlock, ...]:
  spec = request.definition.spec
  return tuple(
    PlannedBlock(
      tuple(spec.layers[layer].name for layer in members), each.layouts if each else {}
    )
    for members, each in itertools.zip_longest(spec.blocks, request.blocks)
  )


def check_request(request: DeviceRequest) -> None:
  """Refuses what a device cannot do, as far as it is known before anything is built.

  Raises:
    InputError: Naming the flag.
  """
  config = request.training
  if config.batch_size < 2:
    raise InputError(
      f"--batch_size={config.batch_size}: a device trains on batches of 2 examples or "
      "more; raise it"
    )
  if config.augmentations:
    raise InputError(
      f"--augmentations={','.join(config.augmentations)}: a device does not augment; "
      "leave them out"
    )
  if config.compute_dtype != "float32":
    raise InputError(
      f"--compute_dtype={config.compute_dtype}: a device computes in float32; leave it out"
    )
  if max(request.definition.spec.channel_blocks, default=1) > 1:
    raise InputError(
      "--channel_block: a device chooses single weights, no blocks of channels; leave it "
      "at 1"
    )
  if not 0 <= request.active <= request.definition.spec.size:
    raise InputError(
      f"active is {request.active}, the model has {request.definition.spec.size} "
      "prunable weights; give what the run's masks have"
    )
