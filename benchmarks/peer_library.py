"""This product against the public PyTorch library of FedTiny's authors.

The library (FedPruning, commit 7069881) was measured on another machine, together with
a plain TensorFlow step; only ratios to that step can be carried over. Here the ratio of
our round to the same step comes from `round_throughput`, that of bfloat16 to float32
from `compute_dtype`, and memory from `memory`; run all three first. Its bytes are those of 10 clients a round, up and
down together; ours count the same.
"""

from typing import Any, NamedTuple

from benchmarks import results_file
from fedtiny_tff.federated.training_rounds import traffic
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.models import registry
from fedtiny_tff.strategies import fedtiny

_CLIENTS = 10


class Peer(NamedTuple):
  """What was measured of the library.

  Attributes:
    model: Key of `registry.MODELS`.
    width: Width multiplier.
    density: Active share of the prunable weights.
    images_per_second: Its speed.
    step_images_per_second: A plain TensorFlow step's on the same machine.
    rss_mb: Resident memory of all its processes.
    round_mb: Bytes of an ordinary round in 10^6, up and down, all clients.
  """

  model: str
  width: float
  density: float
  images_per_second: float
  step_images_per_second: float
  rss_mb: float
  round_mb: float


_PEERS = (
  Peer("resnet18", 1.0, 0.1, 48, 72, 18_300, 896),
  Peer("resnet18", 0.25, 0.05, 399, 694, 7_800, 57.2),
)


def _row(name: str, peer: Peer) -> dict[str, Any]:
  """Returns a benchmark's row of the same model."""
  rows = results_file.read(name).rows
  return next(
    row for row in rows if (row["model"], row["width"]) == (peer.model, peer.width)
  )


def _compare(peer: Peer) -> dict[str, Any]:
  found = registry.get_model(peer.model, (32, 32, 3), 10, peer.width)
  sizes = tfmot_masking.vector_sizes(found)
  active = int(peer.density * found.spec.size)
  figures = traffic.round_traffic(sizes, found.spec, active, fedtiny.FedTiny())
  round_mb = _CLIENTS * (figures.upload_bytes + figures.download_bytes) / 1e6
  to_step = _row("round_throughput", peer)["ratio_to_step"]
  lead = peer.step_images_per_second / peer.images_per_second
  dtypes, memory = _row("compute_dtype", peer), _row("memory", peer)
  rss_mb = memory["driver_rss_mb"] + memory["worker_rss_mb"]
  return {
    "model": peer.model,
    "width": peer.width,
    "density": peer.density,
    "speed_ratio_float32": to_step * lead,
    "speed_ratio_bfloat16": to_step * dtypes["ratio"] * lead,
    "rss_mb": rss_mb,
    "peer_rss_mb": peer.rss_mb,
    "rss_ratio": rss_mb / peer.rss_mb,
    "round_mb": round_mb,
    "peer_round_mb": peer.round_mb,
    "bytes_ratio": round_mb / peer.round_mb,
  }


def main() -> None:
  """Compares every measured setting."""
  results_file.publish("peer_library", [_compare(peer) for peer in _PEERS])


if __name__ == "__main__":
  main()
