"""What devices answer is judged before a candidate is chosen by it."""

import numpy as np
import pytest
import rich.console

from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.devices import device_messages, device_tasks
from fedtiny_tff.devices.device_messages import Envelope
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.federated.device_rounds import device_reports
from fedtiny_tff.federated.runtimes import runtime
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.protection import aggregation_config
from pipelines.apps.progress import Progress
from pipelines.devices.device_asking import DeviceAsking
from pipelines.devices.device_federation import DeviceFederation
from pipelines.devices.device_folder import DeviceFolder
from tests.pipelines.devices import device_server


def test_nobodys_moments_end_the_selection(tmp_path):
  """Else candidates would be judged under a variance of 0."""
  made = device_server.bundle()
  sizes, plan = made.plan.model, made.plan.digest
  channels = np.ones(sizes.batch_norm, np.float32)
  weights = ModelWeights(
    np.ones(sizes.prunable, np.float32), np.ones(sizes.dense, np.float32),
    channels, channels,
  )  # fmt: skip
  pool = selection.make_pool(weights, np.ones([1, sizes.prunable], bool))
  sent = device_messages.write(
    Envelope("candidate", plan, 0), device_reports.candidate_tensors(pool, 0)
  )
  digest = device_tasks.message_digest(sent)
  # No position of any example was seen.
  moments = dict.fromkeys(("count", "first", "second"), np.zeros(sizes.batch_norm))
  answer = device_messages.write(Envelope("moments", plan, 0, 1, digest), moments)
  folder = DeviceFolder(str(tmp_path / "exchange"))
  folder.begin(made.plan.as_json(), made.content)
  path = tmp_path / "exchange" / device_tasks.answer_path(1, "moments", 0)
  path.parent.mkdir(parents=True)
  path.write_bytes(answer)
  progress = Progress(rich.console.Console(quiet=True))
  federation = DeviceFederation(
    DeviceAsking(folder, plan, 60.0, progress), made.plan,
    aggregation_config.WEIGHTED_MEAN, (), 100,
  )  # fmt: skip
  clients = [ClientReference(*map(np.int64, (1, 0, 9, 5)))]
  with (
    runtime.LocalRuntime(),
    pytest.raises(InputError, match=r"^selection: no device's batch-norm moments co"),
  ):
    federation.select(pool, clients, adaptive=True)
