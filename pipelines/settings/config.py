"""The configuration of a run, validated before anything is made."""

import csv
import dataclasses
import io
from typing import Any

from absl import flags

from fedtiny_tff.data import federation
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import worker_channel
from fedtiny_tff.local_training import learning_rates, optimizers, training
from fedtiny_tff.masked_models import compute_dtypes
from fedtiny_tff.sparsity.candidates import default_pool_size
from fedtiny_tff.strategies.pruning_config import PruningConfig
from pipelines.firmware import tflm_checkout
from pipelines.settings import (
  data_config,
  device_checks,
  flag_values,
  privacy_checks,
  run_flags,
)
from tflite_export.arm64 import arm64_setup


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
      layer_densities=self.layer_densities,
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


def _check_candidates(values: dict[str, Any]) -> None:
  density = values["target_density"]
  pool_size = values["pool_size"] or default_pool_size(density)
  if pool_size > flag_values.MOST_CANDIDATES:
    raise InputError(
      f"--target_density={density:g} means {pool_size:,} candidates; set --pool_size "
      f"(at most {flag_values.MOST_CANDIDATES})"
    )


def _check_clients(values: dict[str, Any]) -> None:
  lost = values["client_dropout"] + values["client_stragglers"]
  if lost >= 1.0:
    raise InputError(
      f"--client_dropout and --client_stragglers lose all clients ({lost:g} of them); "
      "their sum must be below 1"
    )
  if 0 < values["clients_per_round"] < values["min_reports"]:
    raise InputError(
      f"--min_reports={values['min_reports']}, but a round has only "
      f"--clients_per_round={values['clients_per_round']}; lower it"
    )
  if 0 < values["num_clients"] < values["clients_per_round"]:
    raise InputError(
      f"--clients_per_round is {values['clients_per_round']}, but there are only "
      f"--num_clients={values['num_clients']}: lower the one or raise the other"
    )


def _check_microcontroller(values: dict[str, Any]) -> None:
  if values["tflm_dir"] is not None:
    tflm_checkout.check(values["tflm_dir"])
  bits = values["mcu_activation_bits"]
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
  flag_values.check(values)
  if values["verify_arm64"] and arm64_setup.problem():
    raise InputError(f"--verify_arm64: {arm64_setup.problem()}, or leave the flag out")
  _check_candidates(values)
  _check_clients(values)
  privacy_checks.check(values)
  device_checks.check(values)
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
