"""Bytes of a round for models and densities: from the types, and serialised.

`goal_bytes` is 4 bytes for every active weight, every other parameter and every
batch-norm statistic. `serialised_upload_bytes` is an update as TFF's runtime sends it.
"""

import itertools
from typing import Any

import numpy as np
import tensorflow_federated as tff

from benchmarks import results_file
from fedtiny_tff.federated import messages
from fedtiny_tff.federated.training_rounds import traffic
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.models import registry
from fedtiny_tff.strategies import fedtiny
from fedtiny_tff.strategies.pruning_config import PruningConfig, regular_events

_MODELS = (
  ("resnet18", (32, 32, 3), 10),
  ("resnet8", (32, 32, 3), 10),
  ("ds_cnn", (49, 10, 1), 12),
  ("digits_cnn", (8, 8, 1), 10),
)
_DENSITIES = (0.01, 0.1, 0.3)


def _filled(message: tff.Type) -> Any:
  """Returns a value of a message's type that no encoding can shorten."""
  if isinstance(message, tff.StructType):
    return [_filled(element) for element in message.children()]
  assert isinstance(message, tff.TensorType) and message.shape is not None
  return np.full(message.shape, 113, message.dtype)


def serialised_bytes(message: tff.Type) -> int:
  """Returns the length of a message as TFF's runtime puts it on the wire."""
  proto, _ = tff.framework.serialize_value(_filled(message), message)
  return proto.ByteSize()


def _measure(
  name: str, shape: tuple[int, ...], classes: int, density: float
) -> dict[str, Any]:
  found = registry.get_model(name, shape, classes)
  sizes, spec = tfmot_masking.vector_sizes(found), found.spec
  config = PruningConfig(density, rounds=300, layer_densities="uniform")
  active = [max(int(density * size), 1) for size in spec.sizes]
  events = regular_events(spec, active, config)
  figures = traffic.round_traffic(sizes, spec, sum(active), fedtiny.FedTiny(), events)
  goal_bytes = 4 * (sum(active) + sum(sizes[1:]))
  update = messages.client_update_type(sizes, sum(active), tff.types.to_type(()))
  return {
    "model": name,
    "density": density,
    "upload_bytes": figures.upload_bytes,
    "goal_bytes": goal_bytes,
    "upload_to_goal": figures.upload_bytes / goal_bytes,
    "serialised_upload_bytes": serialised_bytes(update),
    "adjust_upload_bytes": figures.adjust_upload_bytes,
    "download_bytes": figures.download_bytes,
    "download_bytes_mask_held": figures.download_bytes_mask_held,
    "dense_bytes": 4 * sum(sizes),
  }


def main() -> None:
  """Weighs every model at every density."""
  cases = itertools.product(_MODELS, _DENSITIES)
  results_file.publish("wire", [_measure(*model, density) for model, density in cases])


if __name__ == "__main__":
  main()
