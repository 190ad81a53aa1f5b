"""Which packages form a ring, and which rings a module may import from."""

from typing import Optional

# Longest prefix wins; a name under no prefix is free for everybody.
RINGS = {
  "fedtiny_tff": "core",
  "fedtiny_tff.strategies": "strategies",
  "fedtiny_tff.federated": "federated",
  "tflite_export": "export",
  "pipelines": "pipelines",
  "benchmarks": "benchmarks",
  "tools": "tools",
  "tests": "tests",
  "tensorflow_federated": "tff",
  "absl.flags": "flags",
}

MAY_IMPORT = {
  "core": {"core"},
  "strategies": {"core", "strategies"},
  "federated": {"core", "strategies", "federated", "tff"},
  "export": {"core", "export"},
  "pipelines": {
    *("core", "strategies", "federated", "export", "pipelines"),
    *("tff", "flags"),
  },
  "benchmarks": {
    *("core", "strategies", "federated", "export", "pipelines", "benchmarks"),
    *("tff", "flags"),
  },
  "tools": {"tools"},
  "tests": set(RINGS.values()),
}

# Packages of a folder, and its modules that are in none, in the order in which they build
# on each other: each may import those before it. What is in no order may import all of
# them, and nothing imports it: commands, and what makes the package.
ORDERS = {
  "tflite_export": (
    *(
      "file_format",
      "decode",
      "metadata",
      "provenance",
      "mcu_options",
      "native_output",
    ),
    *("device_training", "artifacts", "runtimes", "arm64", "conversion", "xnnpack"),
    *("texts", "microcontrollers", "android", "devices", "given_model", "targets"),
    *("file_sizes", "python_api"),
  ),
  "pipelines": (
    *("apps", "tracking", "firmware", "settings", "datasets", "runs", "models"),
    *("devices", "training", "exports", "report_page", "run_report", "stages"),
    *("comparisons", "planning", "shell_completion"),
  ),
}


def package(name: str) -> Optional[str]:
  """Returns the package that puts a dotted name in its ring, or None if it is free."""
  parts = name.split(".")
  prefixes = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
  return next((prefix for prefix in prefixes if prefix in RINGS), None)


def ring(name: str) -> Optional[str]:
  """Returns the ring of a dotted name, or None for one that is free."""
  found = package(name)
  return RINGS[found] if found else None


def importers(name: str) -> list[str]:
  """Returns our packages, other than its own, whose modules may import a name."""
  return [
    other
    for other, outer in RINGS.items()
    if other != package(name) and ring(name) in MAY_IMPORT.get(outer, ())
  ]
