"""How much noise there is, and what it is worth: against cases worked out by hand."""

import math

import pytest

from fedtiny_tff.errors import InputError
from fedtiny_tff.protection import privacy
from fedtiny_tff.protection.privacy import Privacy, Sampling


def _normal(x):
  return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _gaussian_delta(noise, epsilon):
  """The exact δ of one Gaussian mechanism (Balle and Wang, arXiv 1805.06530)."""
  a, b = 1.0 / (2.0 * noise), epsilon * noise
  return _normal(a - b) - math.exp(epsilon) * _normal(-a - b)


@pytest.mark.parametrize(("noise", "releases"), [(1.0, 1), (2.0, 1), (4.0, 16)])
def test_everybody_in_every_round_is_one_gaussian(noise, releases):
  """So many Gaussians of multiplier z are one of z over their root."""
  epsilon = privacy.epsilon(noise, 1.0, releases, 1e-5)
  together = noise / math.sqrt(releases)
  assert _gaussian_delta(together, epsilon) == pytest.approx(1e-5, rel=0.02)


def test_a_draw_that_leaves_a_client_out_is_worth_less():
  """δ of a sample of chance q is that of q times the mechanism, at ε' = log(1+(e^ε-1)/q)."""
  epsilon = privacy.epsilon(1.0, 0.1, 1, 1e-6)
  unsampled = math.log(1.0 + math.expm1(epsilon) / 0.1)
  assert 0.1 * _gaussian_delta(1.0, unsampled) == pytest.approx(1e-6, rel=0.02)
  assert epsilon < privacy.epsilon(1.0, 1.0, 1, 1e-6)


def test_nothing_revealed_costs_nothing():
  assert privacy.epsilon(1.0, 0.1, 0, 1e-5) == 0.0


def test_every_release_costs_something():
  spent = [privacy.epsilon(1.0, 0.05, n, 1e-5) for n in (1, 2, 10, 100)]
  assert spent == sorted(set(spent))


@pytest.mark.parametrize("target", [0.5, 8.0])
def test_noise_is_just_enough(target):
  sampling = Sampling(1000, 100.0, 50)
  noise = privacy.noise_multiplier_for(target, sampling, 1e-4)
  reached = privacy.epsilon(noise, sampling.chance, 50, 1e-4)
  assert 0.97 * target < reached <= target


def test_parts_together_are_the_whole():
  whole = Privacy(2.0, 100.0, 0)
  for parts in (1, 2, 3):
    # A share's noise counts twice: its sensitivity is a half.
    each = whole.update_noise(parts) ** -2 + (2.0 * whole.share_noise) ** -2
    assert parts * each == pytest.approx(2.0**-2)
  still = Privacy(2.0, 100.0, 0, adaptive=False)
  assert 3 * still.update_noise(3) ** -2 == pytest.approx(2.0**-2)


def test_few_clients_do_not_break_adaptive_clipping():
  few = Privacy(20.0, 3.0, 0)
  assert few.update_noise(3) <= 1.16 * few.part(3)


def test_delta_is_below_one_client():
  assert Sampling(1000, 10.0, 1).default_delta == pytest.approx(1000**-1.1)
  assert Sampling(1000, 10.0, 1).default_delta < 1 / 1000


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ((8.0, 1.0, 0.0), "both say how much noise"),
    ((-1.0, 0.0, 0.0), r"--target_epsilon must be in \(0, 1000\]"),
    ((2000.0, 0.0, 0.0), "--target_epsilon must be in"),
    ((0.0, 0.001, 0.0), "--noise_multiplier must be in"),
    ((8.0, 0.0, 0.5), "--target_delta must be in"),
  ],
)
def test_figures_that_mean_nothing(given, message):
  with pytest.raises(InputError, match=message):
    privacy.check(*given)
  privacy.check(8.0, 0.0, 1e-5)


@pytest.mark.parametrize("given", [(10, 11.0, 1), (10, 0.0, 1), (10, 5.0, 0)])
def test_sampling_that_cannot_be(given):
  with pytest.raises(ValueError):
    Sampling(*given)


def test_an_epsilon_that_no_noise_reaches():
  with pytest.raises(InputError, match="needs a noise multiplier outside"):
    privacy.noise_multiplier_for(1e-6, Sampling(10, 10.0, 1000), 1e-9)
