"""Which density is chosen, on measurements that are known exactly."""

import pytest

from pipelines.models import density_search
from pipelines.models.density_search import Choice, choose
from tflite_export.artifacts import BudgetError
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers.mcu_budget import Footprint


def line(base=1_000, slope=100_000, ram=500):
  """Returns a measurement that is exactly linear, and the densities it was asked for."""
  asked = []

  def measured(density):
    asked.append(density)
    return Footprint(int(base + slope * density), ram)

  return measured, asked


class TestChoose:
  def test_the_limit_if_it_fits_exactly_with_the_reserve(self):
    measured, asked = line()
    # 1,000 + 100,000 · 0.1, which are 99 % of 11,112 rounded down.
    found = choose(measured, 0.1, 0.001, McuOptions(flash_bytes=11_112))
    assert found == Choice(0.1, Footprint(11_000, 500))
    assert asked == [0.1]

  def test_a_byte_less_takes_a_lower_density(self):
    measured, asked = line()
    found = choose(measured, 0.1, 0.001, McuOptions(flash_bytes=11_111))
    assert 0.098 <= found.density < 0.1
    assert found.footprint.flash_bytes <= 10_999
    assert len(asked) <= 4

  @pytest.mark.parametrize(
    "allowed", [1_101, 1_500, 3_000, 6_000, 9_000, 20_000, 49_999]
  )
  def test_uses_nearly_all_of_it(self, allowed):
    measured, asked = line()
    found = choose(measured, 0.5, 0.001, McuOptions(flash_bytes=allowed))
    assert found.footprint.flash_bytes <= allowed
    weights_bytes = found.footprint.flash_bytes - 1_000
    assert weights_bytes >= 0.95 * (allowed - 1_000) - 0.01 * allowed
    assert len(asked) <= 2 + density_search._MOST_TRIALS
    # What a person can read.
    assert found.density == float(f"{found.density:.3g}")

  def test_a_bend_costs_trials_but_not_the_limit(self):
    asked = []

    def bent(density):
      asked.append(density)
      return Footprint(int(1_000 + 100_000 * min(density, 0.2)), 500)

    found = choose(bent, 0.9, 0.001, McuOptions(flash_bytes=15_000))
    assert 0.13 < found.density <= 0.14
    assert len(asked) <= 2 + density_search._MOST_TRIALS

  @pytest.mark.parametrize("allowed", [8_000, 15_000, 40_000])
  def test_a_curve_that_lies_above_the_line_is_halved(self, allowed):
    asked = []

    def curved(density):
      asked.append(density)
      return Footprint(int(1_000 + 100_000 * density**0.5), 500)

    found = choose(curved, 0.5, 0.001, McuOptions(flash_bytes=allowed))
    # Of the density ((allowed - 1,000) / 100,000)².
    assert 0.7 < found.density / ((allowed - 1_000) / 100_000) ** 2 < 1
    assert len(asked) <= 2 + density_search._MOST_TRIALS

  def test_a_step_of_ram_is_found_by_halving(self):
    def stepped(density):
      return Footprint(int(1_000 + 100_000 * density), 900 if density > 0.3 else 500)

    found = choose(stepped, 0.8, 0.001, McuOptions(ram_bytes=600))
    assert 0.29 < found.density <= 0.3

  def test_nothing_fits_tells_the_figures_of_the_least(self):
    measured, asked = line()
    with pytest.raises(BudgetError) as caught:
      choose(measured, 0.1, 0.01, McuOptions(flash_bytes=1_500, ram_bytes=499))
    message = str(caught.value)
    assert "no density from 0.01 to 0.1 fits; at 0.01: flash 2,000 bytes" in message
    assert "1,500 allowed; RAM 500 bytes needed, 499 allowed" in message
    assert asked == [0.1, 0.01]

  def test_a_least_density_that_fits_exactly(self):
    measured, _ = line()
    assert choose(measured, 0.1, 0.01, McuOptions(flash_bytes=2_000)).density == 0.01

  def test_one_density_is_tried_once(self):
    measured, asked = line()
    with pytest.raises(BudgetError):
      choose(measured, 1.0, 1.0, McuOptions(flash_bytes=2_000))
    assert asked == [1.0]
