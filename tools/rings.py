"""Which packages form a ring, and what a ring's modules may import."""

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

# What others have written that a ring's modules import: top-level names. Flags are only
# for `pipelines`, see above.
LIBRARIES = {
  "core": {
    *("dp_accounting", "google", "h5py", "numpy", "pyarrow", "safetensors", "scipy"),
    *("sklearn", "tensorflow", "tensorflow_datasets", "tensorflow_model_optimization"),
    "tensorflow_privacy",
  },
  "strategies": {"numpy", "tensorflow"},
  "federated": {
    *("grpc", "numpy", "tensorflow", "tensorflow_federated", "tensorflow_privacy"),
  },
  "export": {"ai_edge_litert", "flatbuffers", "numpy", "tensorflow", "tflite_micro"},
  "pipelines": {
    *("PIL", "absl", "grpc", "jinja2", "markupsafe", "matplotlib", "mlflow", "numpy"),
    *("psutil", "rich", "safetensors", "tensorflow", "tensorflow_federated", "wandb"),
  },
  "tools": {"mkdocs", "mutmut", "pytest"},
}

# Packages of a folder, and its modules that are in none, in the order in which they build
# on each other: each may import those before it. What is in no order may import all of
# them, and nothing imports it: commands, and what makes the package.
ORDERS = {
  "fedtiny_tff": (
    *(
      "version",
      "errors",
      "lazy_names",
      "arrays",
      "field_types",
      "seeds",
      "suggestions",
    ),
    *(
      "plugins",
      "roc",
      "tasks",
      "sparsity",
      "model_structure",
      "masked_models",
      "models",
    ),
    *("data", "local_training", "costs", "protection", "devices", "strategies"),
    "federated",
  ),
  "fedtiny_tff.federated": (
    *("messages", "states", "process_types", "client_feed", "method", "movement"),
    *("final_model", "private_sums", "aggregation", "runtimes", "evaluation"),
    *("adaptive_selection", "training_rounds", "quantisation", "device_rounds"),
    "learning_process",
  ),
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
