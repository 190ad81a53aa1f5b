"""How large the files of a run will be, judged by a stand-in for its model.

The stand-in has as many weights in each layer as the run will keep, at random places and
with random values, and is exported as the trained model will be. What a file takes
depends on how many weights there are and little on which; densities that differ from run
to run (noisy) are taken at their means.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition
from pipelines.apps.progress import Progress
from pipelines.models import planned_model
from pipelines.runs import provenance
from pipelines.settings import boards
from pipelines.settings import config as config_lib
from tflite_export import targets
from tflite_export.artifacts import ExportRequest, VerificationError

if TYPE_CHECKING:
  from tflite_export.device_training.device_bundle import DeviceRequest

_ROWS = 4


def expected_exports(
  config: config_lib.RunConfig,
  trained: definition.ModelDefinition,
  counts: Sequence[int],
  info: DatasetInfo,
  facts: Mapping[str, Any],
  progress: Progress,
  device: "Optional[DeviceRequest]" = None,
) -> list[dict[str, Any]]:
  """Exports the stand-in to the run's targets; nothing is written.

  Args:
    config: The run's flags.
    trained: What devices train.
    counts: Weights that each of its layers keeps.
    info: Of the dataset.
    facts: As `provenance.provenance` takes them.
    progress: Where progress is shown.
    device: What devices do in the run, if a file for it is asked for.

  Returns:
    A mapping per file: target, path, format, bytes, dense_bytes, arena_bytes. For a
    target whose files cannot be estimated: target and problem.
  """
  if not config.targets:
    return []
  model = planned_model.stand_in(trained, config.target_density, counts)
  planned_model.tame(model)
  shape = (_ROWS, *model.inputs[0].shape[1:])
  if None in shape:
    problem = f"the model's input {shape[1:]} has open sizes"
    return [{"target": target, "problem": problem} for target in config.targets]
  rows = np.random.default_rng(0).uniform(0.0, 1.0, shape).astype(np.float32)
  request = ExportRequest(
    model=model,
    masks={
      layer.name: model.get_layer(layer.name).kernel.numpy() != 0
      for layer in trained.spec.layers
    },
    task=trained.task,
    calibration=rows,
    evaluation_inputs=rows,
    evaluation_labels=None,
    class_names=info.class_names,
    provenance=provenance.provenance(config, info, facts, "By samples."),
    mcu=boards.mcu_options(config),
    device=device,
  )
  found: list[dict[str, Any]] = []
  for target in config.targets:
    with progress.waiting(f"expected sizes of files: {target}"):
      found += _of_target(target, request)
  return found


def _of_target(target: str, request: ExportRequest) -> list[dict[str, Any]]:
  try:
    bundle = targets.TARGETS[target](request)
  except (VerificationError, InputError) as error:
    return [{"target": target, "problem": " ".join(str(error).split())}]
  return [
    {
      "target": target,
      "path": row.path,
      "format": row.format,
      "bytes": row.bytes,
      "dense_bytes": row.dense_bytes,
      "arena_bytes": row.arena_bytes,
    }
    for row in bundle.artifacts
  ]
