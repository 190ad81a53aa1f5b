"""From a run's flags to its devices, introduced and ready."""

import numpy as np

from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.strategies import base
from pipelines.apps.progress import Progress
from pipelines.datasets.data_folder import RunData
from pipelines.devices import device_bundles
from pipelines.devices.device_asking import DeviceAsking
from pipelines.devices.device_federation import DeviceFederation
from pipelines.devices.device_folder import DeviceFolder
from pipelines.runs import participation, state_store
from pipelines.settings import config as config_lib
from pipelines.settings import privacy_plan
from pipelines.training import selection_stage

_REFERENCES = "references"


def open_federation(
  config: config_lib.RunConfig,
  data: RunData,
  models: base.ModelPlan,
  weights: ModelWeights,
  store: state_store.StateStore,
  progress: Progress,
) -> tuple[DeviceFederation, np.ndarray]:
  """Hands out the plan, and waits until devices have introduced themselves, once.

  Args:
    config: The run's flags.
    data: Its data; there are as many devices as clients.
    models: Its models and strategy.
    weights: Of the pre-trained model.
    store: Where it is kept what devices said.
    progress: Where it is shown who is waited for.

  Returns:
    The devices, and int64 [clients, 4], what `RunData.references` are in their case.

  Raises:
    InputError: When devices cannot do their part, the folder is of no use, or no device
      is there.
  """
  strategy = models.strategy
  known = selection_stage.pretrained_model(data, models, weights)
  first = np.asarray(strategy.candidate_masks(known, config.pruning))[0]
  bundle = device_bundles.bundle_of(config, models, int(np.count_nonzero(first)))
  folder = DeviceFolder(config.device_exchange)
  folder.begin(bundle.plan.as_json(), bundle.content)
  devices = DeviceFederation(
    DeviceAsking(folder, bundle.plan.digest, config.device_timeout_seconds, progress),
    bundle.plan,
    participation.aggregated(
      config,
      len(data.references),
      privacy_plan.largest_examples(data.references),
      strategy,
    ),
    device_bundles.possible_events(models, config.pruning),
    config.device_most_examples,
  )
  progress.say(f"plan and model file are in {folder}: devices and gateways may start")
  stored = store.load_latest()
  if stored is not None:
    return devices, stored[1][_REFERENCES]
  references = devices.introduce(len(data.references))
  store.save(0, {_REFERENCES: references}, {})
  return devices, references
