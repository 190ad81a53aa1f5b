"""What each flag of a run may be set to, checked before TensorFlow is loaded.

A mistyped name or number is then told at once. What flags mean together is checked in
`config`, which needs the libraries.
"""

import math
from typing import Any

from absl import flags

from fedtiny_tff import suggestions
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry as models
from fedtiny_tff.strategies import registry as strategies
from pipelines.settings import boards, choices, data_config, run_flags
from pipelines.tracking import registry as trackers
from tflite_export import targets

# Of single channels, pairs and fours XNNPACK has sparse kernels.
_CHANNEL_BLOCKS = (1, 2, 4)
MOST_CANDIDATES = 1000
# Flag to the smallest value that makes sense.
_AT_LEAST = {
  "num_clients": 0,
  "clients_per_round": 0,
  "shards_per_client": 1,
  "synthetic_clients": 1,
  "synthetic_examples_per_client": 1,
  "window_rows": 0,
  "window_stride_rows": 0,
  "sample_rate_hz": 1,
  "client_dropout": 0.0,
  "client_stragglers": 0.0,
  "min_reports": 1,
  "device_most_examples": 1,
  "trim_share": 0.0,
  "byzantine_fraction": 0.0,
  "secure_vote_buckets": 16,
  "rounds": 1,
  "local_epochs": 1,
  "max_local_steps": 0,
  "batch_size": 1,
  "pretrain_epochs": 0,
  "public_samples_per_class": 0,
  "calibration_samples": 0,
  "quantisation_aware_rounds": 1,
  "quantisation_aware_learning_rate": 0.0,
  "adjust_every_rounds": 1,
  "adjust_until_round": 0,
  "pool_size": 0,
  "eval_every_rounds": 1,
  "early_stopping": 0,
  "profile": 0,
  "seed": 0,
  "benchmark_threads": 1,
  "benchmark_runs": 1,
  "mcu_flash_kb": 0,
  "mcu_ram_kb": 0,
  "mcu_density_limit": 0.0,
}
# Flag to the largest value that is not a slip of the finger.
_AT_MOST = {
  "num_clients": 10**7,
  "clients_per_round": 10**7,
  "public_samples_per_class": 10**9,
  "shards_per_client": 10**6,
  "synthetic_clients": 10**7,
  "synthetic_examples_per_client": 10**6,
  "window_rows": 10**7,
  "window_stride_rows": 10**7,
  "sample_rate_hz": 10**6,
  "quantity_sigma": 10.0,
  "rounds": 10**6,
  "min_reports": 10**7,
  "local_epochs": 10**4,
  # Steps are counted in int32.
  "max_local_steps": 10**9,
  "batch_size": 10**6,
  "pretrain_epochs": 10**5,
  "pool_size": MOST_CANDIDATES,
  "secure_vote_buckets": 2**24,
  "device_most_examples": 2**24,
  "calibration_samples": 10**9,
  "quantisation_aware_rounds": 10**6,
  "adjust_every_rounds": 10**9,
  "adjust_until_round": 10**9,
  "eval_every_rounds": 10**9,
  "early_stopping": 10**9,
  "profile": 10**6,
  "dirichlet_alpha": 1e6,
  "benchmark_threads": 1024,
  "benchmark_runs": 10**6,
  "mcu_flash_kb": 2**22,
  "mcu_ram_kb": 2**22,
  "mcu_density_limit": 1.0,
  "seed": 2**62,
}
_LEAST_DIRICHLET_ALPHA = 1e-3


def _check_texts(values: dict[str, Any]) -> None:
  """Refuses what `run.flags`, which has a flag a line, could not give back."""
  for name, value in values.items():
    for text in value if isinstance(value, list) else [value]:
      if isinstance(text, str) and not _is_a_line(text):
        raise InputError(
          f"--{name}={text!r:.60}: must be UTF-8 text without line breaks, as run.flags "
          "keeps it; write it so, or rename the file"
        )


def _is_a_line(text: str) -> bool:
  try:
    text.encode()
  # Bytes of the command line that are no UTF-8 arrive as halves of pairs.
  except UnicodeEncodeError:
    return False
  return text.splitlines() in ([], [text])


def _check_ranges(values: dict[str, Any]) -> None:
  for name, least in _AT_LEAST.items():
    if values[name] < least:
      raise InputError(f"--{name} must be at least {least}, got {values[name]}")
  for name, most in _AT_MOST.items():
    if values[name] > most:
      raise InputError(f"--{name} must be at most {most}, got {values[name]}")
  for name in ("dirichlet_alpha", "width"):
    if values[name] <= 0.0:
      raise InputError(f"--{name} must be positive, got {values[name]:g}")
  if not 50.0 < values["calibration_percentile"] <= 100.0:
    raise InputError(
      "--calibration_percentile must be in (50, 100], got "
      f"{values['calibration_percentile']:g}"
    )
  if values["dirichlet_alpha"] < _LEAST_DIRICHLET_ALPHA:
    raise InputError(
      f"--dirichlet_alpha must be at least {_LEAST_DIRICHLET_ALPHA}, got "
      f"{values['dirichlet_alpha']:g}"
    )


def _check_names(values: dict[str, Any]) -> None:
  choices.check_closed(values)
  strategies.check(values["strategy"], "--strategy")
  if values["model"] not in models.MODELS and not models.is_own(values["model"]):
    raise InputError(
      f"--model must be one of {', '.join(models.MODELS)}, a file FILE.keras or "
      f"PACKAGE.MODULE:FUNCTION, got {values['model']!r}"
      f"{suggestions.question(values['model'], models.MODELS)}"
    )
  for target in values["targets"]:
    if target not in targets.TARGETS:
      raise InputError(
        f"--targets must name one or more of {', '.join(targets.TARGETS)}, got {target!r}"
        f"{suggestions.question(target, targets.TARGETS)}"
      )
    if values["targets"].count(target) > 1:
      raise InputError(f"--targets names {target!r} more than once; name it once")
  trackers.check(values["trackers"])
  boards.find(values["board"])
  bits = values["mcu_activation_bits"]
  if bits not in (8, 16):
    raise InputError(f"--mcu_activation_bits must be 8 or 16, got {bits}")


def _check_pruning(values: dict[str, Any]) -> None:
  if values["channel_block"] not in _CHANNEL_BLOCKS:
    raise InputError(
      f"--channel_block must be one of {', '.join(map(str, _CHANNEL_BLOCKS))}, got "
      f"{values['channel_block']}"
    )
  density = values["target_density"]
  if not 0.0 < density <= 1.0:
    raise InputError(f"--target_density must be in (0, 1], got {density:g}")


def _check_shares(values: dict[str, Any]) -> None:
  if values["trim_share"] >= 0.5:
    raise InputError(f"--trim_share must be below 0.5, got {values['trim_share']:g}")
  if values["byzantine_fraction"] > 1.0:
    raise InputError(
      f"--byzantine_fraction must be at most 1, got {values['byzantine_fraction']:g}"
    )


def check(values: dict[str, Any]) -> None:
  """Makes sure of flags whose values say by themselves that they are wrong.

  Args:
    values: Every flag of `run_flags`, by name.

  Raises:
    InputError: Naming the flag, the value found and what is allowed.
  """
  _check_names(values)
  data_config.check(values)
  _check_texts(values)
  for name, value in values.items():
    if isinstance(value, float) and not math.isfinite(value):
      raise InputError(f"--{name} must be a finite number, got {value}")
  _check_ranges(values)
  _check_pruning(values)
  _check_shares(values)


def check_flags() -> None:
  """Makes sure of the command line's flags, as `check` does."""
  check({name: flags.FLAGS[name].value for name in run_flags.names()})
