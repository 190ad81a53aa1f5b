"""The density chosen for budgets holds for masks whose layers differ in density."""

import numpy as np
import pytest

from benchmarks import mcu_budgets
from benchmarks.mcu_budgets import CASES
from pipelines.models import density_budget
from tflite_export.artifacts import BudgetError

SMALL = [case for case in CASES if case.model == "digits_cnn"]
# RAM for some of the layers only, and flash that this makes short.
SHORT_OF_BOTH = SMALL[3]


def check(case, seeds):
  row = mcu_budgets.measure(case, seeds)
  options = case.options
  if options.flash_bytes is not None:
    assert row["most_flash_bytes"] <= options.flash_bytes
    # Flash is not left unused where it decides.
    assert row["density"] == 0.3 or row["planned_flash_bytes"] > (
      0.97 * options.flash_bytes
    )
  if options.ram_bytes is not None:
    assert row["most_ram_bytes"] <= options.ram_bytes
  return row


def test_flash_and_ram_for_all_layers():
  row = check(SMALL[2], 2)
  assert (row["decoded"], row["ram_kb"]) == (5, 28)


def test_too_little_ram_for_every_layer():
  row = check(SHORT_OF_BOTH, 3)
  assert row["decoded"] == 4
  assert row["density"] < 0.3


def test_without_allowance_for_noisy_densities_an_export_fails(monkeypatch):
  monkeypatch.setattr(density_budget, "_NOISE", 0.0)
  with pytest.raises(BudgetError, match=r"flash .* bytes needed .*, 30,720 allowed"):
    mcu_budgets.measure(SHORT_OF_BOTH, 3)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_cases(case):
  check(case, 8)


def test_layers_differ_in_density_and_the_sum_is_exact():
  case = SMALL[0]
  model, masks = mcu_budgets.noisy_model(case, 0.1, 0)
  shares = [mask.mean() for mask in masks.values()]
  assert max(shares) > 1.2 * min(shares)
  assert sum(mask.sum() for mask in masks.values()) == int(
    0.1 * case.definition.spec.size
  )
  for name, mask in masks.items():
    kernel = model.get_layer(name).kernel.numpy()
    np.testing.assert_array_equal(kernel != 0, mask)
