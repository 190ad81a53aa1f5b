"""Client-level differential privacy: how much noise, and what it is worth.

Neighbouring data sets differ by one client with all its examples. Every round invites
each client of the population independently with the same chance (Poisson sampling), so
what a round reveals is a subsampled Gaussian mechanism; where a round reveals several
things, they share its noise as one mechanism. Their composition over the run is
accounted for by privacy loss distributions.

Sources: "Learning Differentially Private Recurrent Language Models", arXiv 1710.06963;
"Differentially Private Learning with Adaptive Clipping", arXiv 1905.03871; accounting
by https://github.com/google/differential-privacy/tree/main/python/dp_accounting.
"""

import dataclasses
import functools
import math

import dp_accounting
from dp_accounting import rdp
from dp_accounting.pld import privacy_loss_distribution as pld

from fedtiny_tff.errors import InputError

# With fewer clients, noise that hides one of them hides what they learned.
LEAST_CLIENTS = 1000
# Beyond it a guarantee says nothing, and the search for it does not end.
_LARGEST_EPSILON = 1000.0
_NOISE_BRACKET = (0.05, 1e4)
# Of the losses that are told apart: finer ones give the same first three digits.
_LOSS_STEP = 1e-3


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How often, and out of how many, clients are looked at.

  Attributes:
    population: All clients.
    expected_clients: Of a round, on average.
    releases: Rounds that reveal something, a selection among them.
  """

  population: int
  expected_clients: float
  releases: int

  def __post_init__(self) -> None:
    """Refuses clients and releases that cannot be with a ValueError."""
    if not 0 < self.expected_clients <= self.population:
      raise ValueError(
        f"{self.expected_clients} clients a round of a population of {self.population}"
      )
    if self.releases < 1:
      raise ValueError(f"releases must be at least 1, got {self.releases}")

  @property
  def chance(self) -> float:
    """That a client is invited to a round."""
    return self.expected_clients / self.population

  @property
  def default_delta(self) -> float:
    """A chance of failure that is well below one client of the population."""
    delta: float = float(self.population) ** -1.1
    return delta


@functools.lru_cache(maxsize=64)
def _once(noise_multiplier: float, chance: float) -> pld.PrivacyLossDistribution:
  return pld.from_gaussian_mechanism(
    noise_multiplier, sampling_prob=chance, value_discretization_interval=_LOSS_STEP
  )


@functools.lru_cache(maxsize=4096)
def epsilon(
  noise_multiplier: float, chance: float, releases: int, delta: float
) -> float:
  """Returns what so many releases are worth.

  Args:
    noise_multiplier: Of each release: standard deviation over sensitivity.
    chance: That a client is invited, in (0, 1].
    releases: How many; 0 are worth nothing.
    delta: Chance at which the bound may fail.
  """
  if not releases:
    return 0.0
  composed = _once(noise_multiplier, chance).self_compose(releases)
  return float(composed.get_epsilon_for_delta(delta))


def _bound_by_moments(target_epsilon: float, sampling: Sampling, delta: float) -> float:
  """Returns a noise multiplier that is enough, and not much more, quickly found."""

  def event(noise_multiplier: float) -> dp_accounting.DpEvent:
    noise = dp_accounting.GaussianDpEvent(noise_multiplier)
    drawn = dp_accounting.PoissonSampledDpEvent(sampling.chance, noise)
    return dp_accounting.SelfComposedDpEvent(drawn, sampling.releases)

  return float(
    dp_accounting.calibrate_dp_mechanism(
      rdp.RdpAccountant,
      event,
      target_epsilon,
      delta,
      bracket_interval=dp_accounting.ExplicitBracketInterval(*_NOISE_BRACKET),
    )
  )


@functools.lru_cache(maxsize=64)
def noise_multiplier_for(
  target_epsilon: float, sampling: Sampling, delta: float
) -> float:
  """Finds the least noise with which a run keeps to an ε.

  Args:
    target_epsilon: The bound.
    sampling: What the run reveals.
    delta: Chance at which the bound may fail.

  Returns:
    A number of four decimals.

  Raises:
    InputError: When no noise that makes sense keeps to it.
  """
  try:
    enough = _bound_by_moments(target_epsilon, sampling, delta)
  except ValueError as error:
    raise InputError(
      f"--target_epsilon={target_epsilon:g} with --target_delta={delta:.2g} over "
      f"{sampling.releases} rounds needs a noise multiplier outside "
      f"{_NOISE_BRACKET[0]:g} to {_NOISE_BRACKET[1]:g}; choose another ε, or another "
      "number of rounds"
    ) from error
  high = math.ceil(enough * 1e4)
  low = high // 2
  while high - low > max(1, high // 1000):
    middle = (low + high) // 2
    found = epsilon(middle / 1e4, sampling.chance, sampling.releases, delta)
    low, high = (low, middle) if found <= target_epsilon else (middle, high)
  return high / 1e4


@dataclasses.dataclass(frozen=True)
class Privacy:
  """How reports are made private.

  Attributes:
    noise_multiplier: Of a round, whatever it reveals.
    expected_clients: Of a round, on average; sums are divided by it, since how many
      took part is private.
    seed: Of the noise.
    clip_norm: Longest update that counts, at first.
    adaptive: Whether that follows the median of updates, which costs noise of its own.
  """

  noise_multiplier: float
  expected_clients: float
  seed: int
  clip_norm: float = 1.0
  adaptive: bool = True

  def part(self, parts: int) -> float:
    """Returns the noise multiplier of each of so many things that a round reveals.

    Gaussian mechanisms of multipliers z_i make one of (Σ z_i^-2)^-1/2.
    """
    return self.noise_multiplier * math.sqrt(parts)

  @property
  def share_noise(self) -> float:
    """Standard deviation of the noise on how many updates were clipped.

    A twentieth of the clients, as arXiv 1905.03871 advises, but never so little that
    it would need more noise on the updates than a sixth.
    """
    return max(0.05 * self.expected_clients, self.part(3))

  def update_noise(self, parts: int) -> float:
    """Returns the multiplier on updates themselves, beside that on their lengths."""
    noise = self.part(parts)
    if not self.adaptive:
      return noise
    # The share's sensitivity is a half.
    of_mean: float = (noise**-2 - (2.0 * self.share_noise) ** -2) ** -0.5
    return of_mean


def check(target_epsilon: float, noise_multiplier: float, target_delta: float) -> None:
  """Refuses figures that mean nothing.

  Args:
    target_epsilon: 0 for none.
    noise_multiplier: 0 for none.
    target_delta: 0 for the default.

  Raises:
    InputError: Naming the flag.
  """
  if target_epsilon and noise_multiplier:
    raise InputError(
      "--target_epsilon and --noise_multiplier both say how much noise there is: "
      "leave one out"
    )
  if not 0.0 <= target_epsilon <= _LARGEST_EPSILON:
    raise InputError(
      f"--target_epsilon must be in (0, {_LARGEST_EPSILON:g}], or 0 for no privacy, "
      f"got {target_epsilon:g}"
    )
  if (
    noise_multiplier and not _NOISE_BRACKET[0] <= noise_multiplier <= _NOISE_BRACKET[1]
  ):
    raise InputError(
      f"--noise_multiplier must be in [{_NOISE_BRACKET[0]:g}, {_NOISE_BRACKET[1]:g}], "
      f"or 0 for no privacy, got {noise_multiplier:g}"
    )
  if not 0.0 <= target_delta < 0.1:
    raise InputError(
      f"--target_delta must be in (0, 0.1), or 0 for population^-1.1, got "
      f"{target_delta:g}"
    )
