"""Picks the density that fits a microcontroller's flash and RAM, before training.

A stand-in for the final model (random weights, uniform masks) is converted, encoded and
measured in TFLM as the final one will be, at a few densities. What a model takes depends
on how many weights there are and little on which, so that a hundredth is kept in reserve.
That is an estimate: models with noisy layer densities took up to 0.5 % more flash than
their stand-ins, ds_cnn at 0.3 % density 1.6 %. Where there is no RAM to decode every
layer, it does matter which: what FedTiny's draw takes from a layer that stays dense saves
nothing, and costs flash in another; the most that can be is added. The export measures
the final files and holds them to the whole budget.
"""

import dataclasses
import math
from typing import Optional

import numpy as np

from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition
from pipelines.apps.progress import Progress
from pipelines.models import planned_model
from pipelines.models.density_search import Choice, choose, with_reserve
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import boards
from pipelines.settings import config as config_lib
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers.mcu_budget import Footprint

# FedTiny's pool grows with 1 / density: below, choosing takes longer than training.
_LEAST_DENSITY = 0.001
_CALIBRATION_ROWS = 4
# FedTiny draws a layer's density from half to one and a half times the target.
_NOISE = 0.5


def adopt(config: config_lib.RunConfig, run: RunDirectory) -> config_lib.RunConfig:
  """Returns the configuration with the density that a begun run has chosen from it.

  Args:
    config: As given on the command line.
    run: Its directory, which may hold nothing.
  """
  if config.mcu_density_limit or not run.flags.is_file():
    return config
  stored = {}
  for line in run.flags.read_text(errors="replace").splitlines():
    name, _, value = line.removeprefix("--").partition("=")
    stored[name] = value
  try:
    limit = float(stored.get("mcu_density_limit", "0"))
    density = float(stored.get("target_density", "0"))
  except ValueError:
    # `RunDirectory.check` tells what is wrong with it.
    return config
  if limit != config.target_density:
    return config
  return _with_density(config, density)


def plan(
  config: config_lib.RunConfig,
  model_definition: definition.ModelDefinition,
  info: DatasetInfo,
  is_sparse: bool,
  progress: Progress,
) -> config_lib.RunConfig:
  """Returns the configuration with the largest density that fits, said on the way.

  Args:
    config: Of a run that has not begun.
    model_definition: What will be trained.
    info: Classes and preprocessing of its data.
    is_sparse: Whether the strategy prunes; else there is nothing to choose.
    progress: Where it is said.

  Raises:
    BudgetError: When nothing fits; with the figures of the least density.
  """
  options = boards.mcu_options(config)
  if not options.is_bounded or config.mcu_density_limit:
    return config
  limit = config.target_density if is_sparse else 1.0
  least = min(limit, least_density(model_definition)) if is_sparse else 1.0
  names = info.class_names if model_definition.task.has_classes else None
  tight = with_reserve(options)
  with progress.stage("budget", "density: what fits the microcontroller"):
    choice = choose(
      lambda density: measure(
        model_definition, density, tight, names, info.preprocessing
      ),
      limit,
      least,
      options,
    )
  progress.say(_told(choice, limit, options))
  return _with_density(config, choice.density) if is_sparse else config


def _with_density(config: config_lib.RunConfig, density: float) -> config_lib.RunConfig:
  """Returns a configuration in which the given density is an upper limit."""
  chosen = {"target_density": density, "mcu_density_limit": config.target_density}
  return config_lib.make_config({**config.values, **chosen})


def _told(choice: Choice, limit: float, options: McuOptions) -> str:
  """Returns in a line what was chosen and why."""
  found = choice.footprint
  rows = (
    ("flash", found.flash_bytes, options.flash_bytes),
    ("RAM", found.ram_bytes, options.ram_bytes),
  )
  figures = ", ".join(
    f"{name} {needed:,} of {allowed:,} bytes"
    for name, needed, allowed in rows
    if allowed is not None
  )
  if choice.density == limit:
    return f"density {limit:g} fits: about {figures}"
  return (
    f"density {choice.density:g} instead of {limit:g}: the largest that fits, with about "
    f"{figures}"
  )


def least_density(model_definition: definition.ModelDefinition) -> float:
  """Returns the least density tried, at which every layer keeps a weight."""
  spec = model_definition.spec
  share = sum(spec.channel_blocks) / spec.size
  scale = 10**4
  return min(1.0, max(_LEAST_DENSITY, math.ceil(scale * share) / scale))


def measure(
  model_definition: definition.ModelDefinition,
  density: float,
  options: McuOptions,
  class_names: tuple[str, ...] | None,
  preprocessing: Optional[Preprocessing] = None,
) -> Footprint:
  """Returns what a model of a density takes, judged by a stand-in.

  Raises:
    InputError: When the model cannot be converted.
  """
  # As heavy to load as an export; other runs need none of it.
  from tflite_export.conversion.convert_mcu import McuSettings, convert_mcu
  from tflite_export.decode.tflm_shrink import shrink
  from tflite_export.microcontrollers import mcu_budget
  from tflite_export.runtimes import tflm

  model = planned_model.stand_in(model_definition, density)
  planned_model.tame(model)
  shape = (_CALIBRATION_ROWS, *model.inputs[0].shape[1:])
  if None in shape:
    raise InputError(
      f"the model's input {shape[1:]} has open sizes; a microcontroller needs all"
    )
  rows = np.random.default_rng(0).uniform(0.0, 1.0, shape).astype(np.float32)
  settings = McuSettings(options.activation_bits, options.float_ends)
  content = shrink(convert_mcu(model, rows, settings), options.keep_names).model_bytes
  encoded = mcu_budget.encode_within(content, options.ram_bytes, rows)
  arena = tflm.run(encoded.model_bytes, rows[:1]).arena
  found = mcu_budget.footprint(encoded.model_bytes, arena, class_names, preprocessing)
  dense_bytes = mcu_budget.dense_for_ram_bytes(encoded)
  encoded_bytes = sum(each.dense_bytes for each in encoded.tensors if each.encoded)
  more_bytes = noise_bytes(density, dense_bytes, encoded_bytes)
  return dataclasses.replace(
    found,
    flash_bytes=found.flash_bytes + more_bytes,
    dense_for_ram_bytes=dense_bytes,
  )


def noise_bytes(density: float, dense_bytes: int, encoded_bytes: int) -> int:
  """Returns how many values noisy densities may move to the layers that are encoded.

  Args:
    density: Of all layers together.
    dense_bytes: Values of the layers that stay dense for want of RAM.
    encoded_bytes: Values of the layers that are encoded.
  """
  given = _NOISE * density * dense_bytes
  taken = min(_NOISE * density, 1.0 - density) * encoded_bytes
  return math.ceil(min(given, taken))
