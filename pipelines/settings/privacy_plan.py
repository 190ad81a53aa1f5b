"""What `--target_epsilon` and `--secure_aggregation` make of a run."""

import dataclasses
import math
from typing import Any, Optional

import numpy as np

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition
from fedtiny_tff.protection import privacy, secure_config
from fedtiny_tff.protection.privacy import Privacy, Sampling
from fedtiny_tff.protection.secure_config import SecureSums
from fedtiny_tff.strategies import base
from pipelines.settings import config as config_lib

# Clients of a round are drawn one by one; so many standard deviations above the mean
# they are refused by the words of secure sums once in 10^14 rounds.
_DEVIATIONS = 8.0


def is_private(config: config_lib.RunConfig) -> bool:
  """Whether a run is differentially private."""
  return bool(config.target_epsilon or config.noise_multiplier)


def hides_reports(config: config_lib.RunConfig) -> bool:
  """Whether the server learns sums only, or private ones."""
  return is_private(config) or config.secure_aggregation != secure_config.NONE


@dataclasses.dataclass(frozen=True)
class PrivacyPlan:
  """The guarantee of a run.

  Attributes:
    sampling: What the run reveals, and of whom.
    delta: Chance at which ε may fail.
    noise_multiplier: Of each release.
  """

  sampling: Sampling
  delta: float
  noise_multiplier: float

  def epsilon(self, releases: int) -> float:
    """Returns what so many releases are worth."""
    found = privacy.epsilon(
      self.noise_multiplier, self.sampling.chance, releases, self.delta
    )
    return round(found, 4)

  def after_round(self, number: int, rounds: int) -> float:
    """Returns ε after a round, a selection before it included."""
    return self.epsilon(number + 1 + self.sampling.releases - rounds)

  def summary(self) -> dict[str, Any]:
    """Returns the `privacy` part of `report.json`, of all rounds that were planned."""
    return {
      "epsilon": self.epsilon(self.sampling.releases),
      "delta": self.delta,
      "noise_multiplier": self.noise_multiplier,
      "clients": self.sampling.population,
      "expected_clients_per_round": self.sampling.expected_clients,
      "releases": self.sampling.releases,
    }


def plan(
  config: config_lib.RunConfig, population: int, strategy: base.Strategy
) -> Optional[PrivacyPlan]:
  """Returns the guarantee of a run, None for a run without.

  Args:
    config: The run's flags.
    population: All clients.
    strategy: The method; a selection is a release too.

  Raises:
    InputError: When no noise keeps to `--target_epsilon`.
  """
  if not is_private(config):
    return None
  selects = strategy.selects and config.selection != "none"
  sampling = Sampling(
    population, config.clients_per_round or population, config.rounds + selects
  )
  delta = config.target_delta or sampling.default_delta
  noise = config.noise_multiplier or privacy.noise_multiplier_for(
    config.target_epsilon, sampling, delta
  )
  return PrivacyPlan(sampling, delta, noise)


def most_clients(config: config_lib.RunConfig, population: int) -> int:
  """Returns how many clients a round may have."""
  count = config.clients_per_round or population
  if not is_private(config):
    return count
  return min(population, math.ceil(count + _DEVIATIONS * math.sqrt(count)))


def make_privacy(
  config: config_lib.RunConfig, population: int, strategy: base.Strategy
) -> Optional[Privacy]:
  """Returns how reports are made private, None for not at all."""
  planned = plan(config, population, strategy)
  if planned is None:
    return None
  return Privacy(
    planned.noise_multiplier,
    float(planned.sampling.expected_clients),
    config.seed,
    config.clip_norm,
    config.adaptive_clipping,
  )


def make_secure(
  config: config_lib.RunConfig, population: int, largest_examples: int
) -> Optional[SecureSums]:
  """Returns how reports are added up unseen, None for in the open.

  Args:
    config: The run's flags.
    population: All clients.
    largest_examples: Of a client.

  Raises:
    InputError: When words are too short for so many clients.
  """
  if config.secure_aggregation == secure_config.NONE:
    return None
  return SecureSums(
    config.secure_aggregation,
    config.secure_bits,
    most_clients(config, population),
    max(largest_examples, 1),
    config.secure_vote_buckets if config.secure_votes == secure_config.HASHED else 0,
    config.seed,
  )


def check_method(
  config: config_lib.RunConfig,
  strategy: base.Strategy,
  found: definition.ModelDefinition,
) -> None:
  """Refuses methods whose reports cannot be made private.

  Raises:
    InputError: Naming the method.
  """
  if not is_private(config) or not strategy.prunes:
    return
  spec = found.spec
  events = strategy.plan_events(
    spec, tuple(layer.size for layer in spec.layers), config.pruning
  )
  for event in events[:1]:
    adjustment = strategy.adjustment(
      base.AdjustmentPlan(spec, event.block, event.counts, config.seed, spec.size)
    )
    if adjustment.statistics_specs() and not adjustment.statistics_are_scores:
      raise InputError(
        f"--strategy={strategy.name} lets clients send what has no bound; "
        "--target_epsilon needs fedtiny, prunefl, fedmef or a method without votes"
      )


def check_calibration(config: config_lib.RunConfig, public_examples: int) -> None:
  """Refuses integer files whose activation ranges only clients could give.

  Args:
    config: The run's flags.
    public_examples: Of the server.

  Raises:
    InputError: Without any, where reports are hidden.
  """
  if hides_reports(config) and not public_examples:
    raise InputError(
      "--target_epsilon and --secure_aggregation do not cover ranges that clients give "
      "for integer files, and the server has no public samples: raise "
      "--public_samples_per_class, or train without export (pipelines.train --targets=)"
    )


def warnings(
  config: config_lib.RunConfig, planned: Optional[PrivacyPlan], parameters: int
) -> list[str]:
  """Says what a guarantee is not worth, in lines.

  Args:
    config: The run's flags.
    planned: The guarantee.
    parameters: Weights that clients send.
  """
  if planned is None:
    return []
  sampling = planned.sampling
  # A third of the noise's variance is the weights' in a round with three parts.
  noise = planned.noise_multiplier * math.sqrt(2.0 * parameters)
  ratio = noise / sampling.expected_clients
  lines = [
    f"privacy: ε = {planned.epsilon(sampling.releases):.2f} at δ = {planned.delta:.1e} "
    f"holds for those who cannot guess --seed={config.seed}, which the noise follows"
  ]
  if sampling.population < privacy.LEAST_CLIENTS:
    lines.append(
      f"privacy: with {sampling.population} clients ε means little: noise that hides one "
      f"of them is {ratio:.1f} times as long as the longest mean update; "
      f"{privacy.LEAST_CLIENTS:,} clients and more are what it is for"
    )
  return lines


def largest_examples(references: np.ndarray) -> int:
  """Returns the most training or held-out examples of a client.

  Args:
    references: int64 [clients, 4], see `RunData.references`.
  """
  return int(references[:, 2:].max())
