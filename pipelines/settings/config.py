"""The configuration of a run, validated before anything is made."""

import csv
import dataclasses
import io
import math
from typing import Any

from absl import flags

from fedtiny_tff import (
  compute_dtypes,
  learning_rates,
  optimizers,
  suggestions,
  training,
)
from fedtiny_tff.candidates import default_pool_size
from fedtiny_tff.data import federation
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import worker_channel
from fedtiny_tff.models import registry as models
from fedtiny_tff.strategies.pruning_config import PruningConfig
from pipelines.firmware import tflm_checkout
from pipelines.settings import (
  boards,
  choices,
  data_config,
  device_checks,
  privacy_checks,
  run_flags,
)
from pipelines.tracking import registry as trackers
from tflite_export import arm64_setup, targets

# Of single channels, pairs and fours XNNPACK has sparse kernels.
CHANNEL_BLOCKS = (1, 2, 4)


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """All flags of a run under their own names, validated.

  Attributes:
    values: Flag name to value.
  """

  values: dict[str, Any]

  def __getattr__(self, name: str) -> Any:
    """Reads a flag's value as an attribute."""
    try:
      return self.__dict__["values"][name]
    except KeyError:
      raise AttributeError(name) from None

  @property
  def training(self) -> training.TrainingConfig:
    """How clients train."""
    return training.TrainingConfig(
      optimizers.OptimizerConfig(
        self.client_optimizer,
        self.client_learning_rate,
        self.client_momentum,
        self.client_weight_decay,
        self.client_clip_norm,
      ),
      self.local_epochs,
      self.batch_size,
      tuple(self.augmentations),
      self.compute_dtype,
      self.max_local_steps,
    )

  def learning_rate(self, round_index: int) -> float:
    """Returns the clients' learning rate in a round."""
    return learning_rates.learning_rate(
      self.learning_rate_schedule, self.client_learning_rate, round_index, self.rounds
    )

  @property
  def source(self) -> SourceOptions:
    """How the dataset is to be read."""
    return data_config.source_options(self.values)

  def federation(self, partitioner: str) -> federation.FederationConfig:
    """Returns how the training split is to be assigned."""
    return federation.FederationConfig(
      partitioner,
      self.num_clients,
      self.dirichlet_alpha,
      self.shards_per_client,
      self.quantity_sigma,
      self.public_samples_per_class,
      self.seed,
    )

  @property
  def pruning(self) -> PruningConfig:
    """What strategies read."""
    return PruningConfig(
      target_density=self.target_density,
      rounds=self.rounds,
      adjust_every_rounds=self.adjust_every_rounds,
      adjust_until_round=self.adjust_until_round,
      pool_size=self.pool_size,
      layer_counts=self.layer_densities,
      granularity=self.granularity,
      adjust_order=self.adjust_order,
      seed=self.seed,
    )

  def configuration(self) -> dict[str, Any]:
    """Everything that decides the result: all flags but where it goes."""
    return {
      name: value
      for name, value in self.values.items()
      if name not in run_flags.NOT_CONFIGURATION
    }


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
  "shards_per_client": 10**6,
  "synthetic_clients": 10**7,
  "synthetic_examples_per_client": 10**6,
  "window_rows": 10**7,
  "window_stride_rows": 10**7,
  "sample_rate_hz": 10**6,
  "quantity_sigma": 10.0,
  "rounds": 10**6,
  "local_epochs": 10**4,
  "batch_size": 10**6,
  "pretrain_epochs": 10**5,
  "pool_size": 1000,
  "secure_vote_buckets": 2**24,
  "device_most_examples": 2**24,
  "calibration_samples": 10**9,
  "quantisation_aware_rounds": 10**6,
  "dirichlet_alpha": 1e6,
  "benchmark_threads": 1024,
  "benchmark_runs": 10**6,
  "mcu_flash_kb": 2**22,
  "mcu_ram_kb": 2**22,
  "mcu_density_limit": 1.0,
  "seed": 2**62,
}
_LEAST_DIRICHLET_ALPHA = 1e-3


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


def _check_pruning(values: dict[str, Any]) -> None:
  if values["channel_block"] not in CHANNEL_BLOCKS:
    raise InputError(
      f"--channel_block must be one of {', '.join(map(str, CHANNEL_BLOCKS))}, got "
      f"{values['channel_block']}"
    )
  density = values["target_density"]
  if not 0.0 < density <= 1.0:
    raise InputError(f"--target_density must be in (0, 1], got {density:g}")
  pool_size = values["pool_size"] or default_pool_size(density)
  if pool_size > _AT_MOST["pool_size"]:
    raise InputError(
      f"--target_density={density:g} means {pool_size:,} candidates; set --pool_size "
      f"(at most {_AT_MOST['pool_size']})"
    )


def _check_numbers(values: dict[str, Any]) -> None:
  for name, value in values.items():
    if isinstance(value, float) and not math.isfinite(value):
      raise InputError(f"--{name} must be a finite number, got {value}")
  _check_ranges(values)
  _check_pruning(values)
  _check_clients(values)
  privacy_checks.check(values)
  device_checks.check(values)
  if 0 < values["num_clients"] < values["clients_per_round"]:
    raise InputError(
      f"--clients_per_round is {values['clients_per_round']}, but there are only "
      f"--num_clients={values['num_clients']}: lower the one or raise the other"
    )


def _check_clients(values: dict[str, Any]) -> None:
  lost = values["client_dropout"] + values["client_stragglers"]
  if lost >= 1.0:
    raise InputError(
      f"--client_dropout and --client_stragglers lose all clients ({lost:g} of them); "
      "their sum must be below 1"
    )
  if values["trim_share"] >= 0.5:
    raise InputError(f"--trim_share must be below 0.5, got {values['trim_share']:g}")
  if values["byzantine_fraction"] > 1.0:
    raise InputError(
      f"--byzantine_fraction must be at most 1, got {values['byzantine_fraction']:g}"
    )
  if 0 < values["clients_per_round"] < values["min_reports"]:
    raise InputError(
      f"--min_reports={values['min_reports']}, but a round has only "
      f"--clients_per_round={values['clients_per_round']}; lower it"
    )


def _check_microcontroller(values: dict[str, Any]) -> None:
  boards.find(values["board"])
  if values["tflm_dir"] is not None:
    tflm_checkout.check(values["tflm_dir"])
  bits = values["mcu_activation_bits"]
  if bits not in (8, 16):
    raise InputError(f"--mcu_activation_bits must be 8 or 16, got {bits}")
  for name, given in (
    ("calibration_source", "clients"),
    ("calibration_ranges", "percentile"),
    ("public_samples_per_class", 0),
  ):
    if bits == 16 and "mcu" in values["targets"] and values[name] == given:
      raise InputError(
        f"--mcu_activation_bits=16 needs samples to calibrate with, and "
        f"--{name}={given} gives ranges only; change either"
      )


def _checked_workers(given: list[str]) -> list[str]:
  try:
    return list(worker_channel.parse_addresses(given))
  except InputError as error:
    raise InputError(f"--workers: {error}") from error


def make_config(values: dict[str, Any]) -> RunConfig:
  """Validates flag values.

  Args:
    values: Every flag of `run_flags`, by name.

  Raises:
    InputError: Naming the flag, the value found and what is allowed.
  """
  choices.check_closed(values)
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
  if values["verify_arm64"] and arm64_setup.problem():
    raise InputError(f"--verify_arm64: {arm64_setup.problem()}, or leave the flag out")
  trackers.check(values["trackers"])
  data_config.check(values)
  _check_numbers(values)
  _check_microcontroller(values)
  workers = _checked_workers(values["workers"])
  if workers and values["profile"]:
    raise InputError("--profile times a worker of our own: leave --workers out")
  # Resolved here, so that a run continued on another CPU does not change its type.
  compute_dtype = compute_dtypes.resolve(values["compute_dtype"])
  config = RunConfig({**values, "compute_dtype": compute_dtype, "workers": workers})
  try:
    _ = config.training, config.pruning
  except ValueError as error:
    raise InputError(str(error)) from error
  return config


def from_flags() -> RunConfig:
  """Builds the configuration from the parsed command line.

  Raises:
    InputError: As `make_config`, and when `--output_dir` is missing.
  """
  values = {name: flags.FLAGS[name].value for name in run_flags.names()}
  if not values["output_dir"]:
    raise InputError("--output_dir is missing: name the folder of the run")
  return make_config(values)


def _listed(values: list[str]) -> str:
  """Writes a list as its flag reads it: a value with a comma stands in quotes."""
  line = io.StringIO()
  csv.writer(line, lineterminator="").writerow(values)
  return line.getvalue()


def flagfile_text(config: RunConfig) -> str:
  """Writes a configuration as a flagfile that repeats it."""
  lines = []
  for name, value in config.configuration().items():
    if value is None:
      continue
    if isinstance(value, bool):
      lines.append(f"--{'' if value else 'no'}{name}")
    elif isinstance(value, list):
      lines.append(f"--{name}={_listed(value)}")
    else:
      lines.append(f"--{name}={value}")
  return "\n".join(lines) + "\n"
