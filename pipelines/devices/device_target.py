"""What `--targets=device_client` needs of a run: before it begins, and when it is done.

What builds files for devices takes as long to load as TensorFlow does, and is loaded
when it is asked for.
"""

from typing import TYPE_CHECKING, Optional

from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry as model_registry
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies import registry as strategies
from pipelines.models import cost_figures, planned_model
from pipelines.runs import model_files
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import config as config_lib

if TYPE_CHECKING:
  from tflite_export.device_training.device_bundle import DeviceRequest

TARGET = "device_client"


def planned_request(
  config: config_lib.RunConfig, models: base.ModelPlan, plan: cost_figures.MaskPlan
) -> "Optional[DeviceRequest]":
  """Returns what devices do in a run, if it has any or its client is to be exported.

  Args:
    config: The run.
    models: Its models, and the pruning method.
    plan: Its masks and events, expected ones.

  Raises:
    InputError: When devices cannot do their part in it.
  """
  if TARGET not in config.targets and not config.device_exchange:
    return None
  from pipelines.devices import device_bundles

  return device_bundles.request_of(config, models, sum(plan.active_counts))


def check(
  config: config_lib.RunConfig,
  models: base.ModelPlan,
  plan: cost_figures.MaskPlan,
  is_begun: bool,
) -> None:
  """Makes sure, before a run, that devices can do what they are to do in it.

  Args:
    config: The run.
    models: Its models, and the pruning method.
    plan: Its masks and events, expected ones.
    is_begun: Whether that was found before, for what takes seconds to find.

  Raises:
    InputError: Naming the flag, or the operator.
  """
  request = planned_request(config, models, plan)
  if request is None:
    return
  from tflite_export.device_training import device_bundle

  device_bundle.check_request(request)
  if model_registry.is_own(config.model) and not is_begun:
    device_bundle.make_bundle(request)


def request_of_run(
  config: config_lib.RunConfig, run: RunDirectory, info: DatasetInfo
) -> "DeviceRequest":
  """Returns what devices do in a run that has ended.

  Args:
    config: The run's flags.
    run: Its directory, with a final model.
    info: Of its dataset.

  Raises:
    InputError: When devices cannot do their part in it.
  """
  from pipelines.devices import device_bundles

  models = planned_model.plan_models(
    config, info.shape, info.num_classes, strategies.get_strategy(config.strategy)
  )
  spec = models.trained.spec
  _, masks = model_files.load(run.model)
  shapes = {layer.name: layer.shape for layer in spec.layers}
  if shapes != {name: mask.shape for name, mask in masks.items()}:
    raise InputError(
      f"--model={config.model}: is another model than the one that this run trained; "
      "bring that back, or train anew"
    )
  active = sum(int(mask.sum()) for mask in masks.values())
  return device_bundles.request_of(config, models, active)
