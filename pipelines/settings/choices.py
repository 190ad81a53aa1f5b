"""What a flag may be set to, where that is a name of a list.

Names come from the dicts of plug-ins, which are cheap to import. Nothing here imports
TensorFlow: help and completion must be quick.
"""

from collections.abc import Collection, Iterable, Mapping

from fedtiny_tff import suggestions
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import learning_rates
from fedtiny_tff.models import registry as models
from fedtiny_tff.strategies import registry as strategies
from pipelines.settings import boards
from pipelines.tracking import registry as trackers
from tflite_export import targets

# A dataset of this name was written by `pipelines.make_dataset` and is used in place.
PREPARED = "prepared"

# Flags that take one of these and nothing else. Names are written out where the dict that has
# them imports TensorFlow; a test compares.
CLOSED: dict[str, Collection[str]] = {
  "aggregation": ("mean", "robust", "trimmed_mean", "median"),
  "byzantine_attack": ("none", "sign_flip", "label_flip", "random_pairs"),
  "secure_aggregation": ("none", "bitwidth", "modular"),
  "secure_votes": ("dense", "hashed"),
  "on_bad_record": ("fail", "skip"),
  "layer_densities": ("noisy", "uniform", "erk", "noisy_erk"),
  "prune_for": ("any", "xnnpack"),
  "granularity": ("block", "layer", "entire"),
  "client_optimizer": ("sgd", "adam", "adamw"),
  "selection": ("adaptive", "vanilla", "none"),
  "compute_dtype": ("float32", "bfloat16", "auto"),
  "quantisation_aware": ("auto", "never", "always", "public"),
  "calibration_source": ("public", "clients"),
  "calibration_ranges": ("minmax", "percentile"),
  "learning_rate_schedule": learning_rates.LEARNING_RATE_SCHEDULES,
}
# Flags that take these, and something else besides: a file, `tfds:NAME`, nothing.
OPEN: dict[str, Collection[str]] = {
  "model": models.MODELS,
  "strategy": strategies.STRATEGIES,
  "dataset": (*sources.SOURCES, PREPARED),
  "partitioner": ("iid", "dirichlet", "shards", "quantity_skew", "natural"),
  "adjust_order": ("backward", "forward"),
  "board": boards.BOARDS,
  "feature_extraction": ("none", "log_mel", "mfcc"),
  "to_format": ("prepared", "client_tfrecord", "client_sqlite"),
  "verbosity": ("debug", "info", "warning", "error"),
}
# Flags that take a list of these.
LISTS: dict[str, Collection[str]] = {
  "augmentations": ("crop", "flip", "cutout"),
  "targets": targets.TARGETS,
  "trackers": trackers.TRACKERS,
  "methods": strategies.STRATEGIES,
}


def check(name: str, value: object, known: Iterable[str]) -> None:
  """Makes sure that a flag names something that there is.

  Raises:
    InputError: With all names, and the one that was probably meant.
  """
  names = list(known)
  if value not in names:
    raise InputError(
      f"--{name} must be one of {', '.join(names)}, got {value!r}"
      f"{suggestions.question(value, names)}"
    )


def check_closed(values: Mapping[str, object]) -> None:
  """Makes sure of every flag of `CLOSED`.

  Args:
    values: Flag name to value.

  Raises:
    InputError: As `check`.
  """
  for name, known in CLOSED.items():
    check(name, values[name], known)
