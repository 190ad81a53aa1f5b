"""Which versions of what a run was made with."""

import importlib.metadata
import platform

from fedtiny_tff.version import VERSION

_PACKAGES = (
  "tensorflow", "tensorflow-federated", "tensorflow-model-optimization", "numpy",
  "ai-edge-litert", "tflite-micro",
)  # fmt: skip


def versions() -> dict[str, str]:
  """Returns the product's, Python's and the main packages' versions by name."""
  found = {"fedtiny-tff": VERSION, "python": platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "not installed"
  return found
