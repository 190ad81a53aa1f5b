"""Which density is chosen for a budget, and that a begun run keeps it."""

import dataclasses
import io

import pytest
import rich.console

from fedtiny_tff.data.examples import DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.models import registry
from pipelines.apps.progress import Progress
from pipelines.models import density_budget
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import config as config_lib
from tests.pipelines import support
from tflite_export.artifacts import BudgetError
from tflite_export.mcu_options import McuOptions

NAMES = tuple(str(digit) for digit in range(10))
INFO = DatasetInfo(
  "digits", (8, 8, 1), "uint8", NAMES, Preprocessing(1 / 16, (0.3,), (0.38,))
)


@pytest.fixture(scope="module", name="digits")
def fixture_digits():
  return registry.get_model("digits_cnn", (8, 8, 1), 10, 1.0)


def test_least_density_keeps_a_weight_in_each_layer(digits):
  assert density_budget.least_density(digits) == 0.001
  spec = digits.spec
  small = dataclasses.replace(
    digits, spec=dataclasses.replace(spec, layers=spec.layers[-1:], blocks=((0,),))
  )
  # One of 640 weights, rounded up.
  assert density_budget.least_density(small) == 0.0016


class TestMeasure:
  def test_flash_grows_with_the_density(self, digits):
    found = [
      density_budget.measure(digits, density, McuOptions(), NAMES)
      for density in (0.05, 0.1)
    ]
    more = found[1].flash_bytes - found[0].flash_bytes
    # 5 % of 36,992 weights, and padding.
    assert more == pytest.approx(0.05 * support.PRUNABLE, abs=64)
    assert found[0].ram_bytes == found[1].ram_bytes

  def test_a_limit_of_ram_costs_flash(self, digits):
    free, tight = (
      density_budget.measure(digits, 0.1, McuOptions(ram_bytes=limit), NAMES)
      for limit in (None, 20_480)
    )
    assert tight.ram_bytes <= 20_480 < free.ram_bytes
    assert tight.flash_bytes > free.flash_bytes + 10_000

  def test_activations_of_16_bits(self, digits):
    options = McuOptions(activation_bits=16, float_ends=True)
    found = density_budget.measure(digits, 0.1, options, NAMES)
    assert (
      found.ram_bytes
      > density_budget.measure(digits, 0.1, McuOptions(), NAMES).ram_bytes
    )


class TestNoise:
  @pytest.mark.parametrize(
    ("density", "dense", "encoded", "more"),
    [
      (0.2, 1000, 4000, 100),
      # Each of 500 grows by half at most.
      (0.2, 1000, 500, 50),
      # Or until it is full.
      (0.9, 1000, 1000, 100),
      (1.0, 1000, 1000, 0),
      (0.2, 0, 4000, 0),
    ],
  )
  def test_by_hand(self, density, dense, encoded, more):
    assert density_budget.noise_bytes(density, dense, encoded) == more

  def test_counts_where_a_layer_stays_dense_for_want_of_ram(self, digits, monkeypatch):
    found = {}
    for noise in (0.0, 0.5):
      monkeypatch.setattr(density_budget, "_NOISE", noise)
      for limit in (None, 20_480):
        options = McuOptions(ram_bytes=limit)
        found[noise, limit] = density_budget.measure(digits, 0.1, options, NAMES)
    assert found[0.0, None] == found[0.5, None]
    more = found[0.5, 20_480].flash_bytes - found[0.0, 20_480].flash_bytes
    # The largest layer, 64 by 32 by 9 weights, stays dense; half of a tenth of it.
    assert more == pytest.approx(0.05 * min(18_432, support.PRUNABLE - 18_432), abs=1)


def plan(config, digits, is_sparse=True):
  told = io.StringIO()
  progress = Progress(rich.console.Console(file=told, width=200))
  made = density_budget.plan(config, digits, INFO, is_sparse, progress)
  return made, told.getvalue()


class TestPlan:
  def test_without_budgets_nothing_happens(self, digits):
    config = support.make_config()
    assert plan(config, digits) == (config, "")

  def test_a_budget_that_is_large_enough(self, digits):
    config = support.make_config(board="nrf52840_dk")
    made, told = plan(config, digits)
    assert (made.target_density, made.mcu_density_limit) == (0.1, 0.1)
    assert "density 0.1 fits: about flash" in told
    assert "of 1,048,576 bytes, RAM" in told

  def test_a_small_budget_takes_less_and_says_so(self, digits):
    config = support.make_config(mcu_flash_kb=11)
    made, told = plan(config, digits)
    assert 0.03 < made.target_density < 0.1
    assert made.mcu_density_limit == 0.1
    assert f"density {made.target_density:g} instead of 0.1" in told
    found = density_budget.measure(
      digits, made.target_density, McuOptions(flash_bytes=11 * 1024), NAMES
    )
    assert 0.96 * 11 * 1024 < found.flash_bytes <= 0.99 * 11 * 1024
    # Chosen once: the same flags again leave it as it is.
    assert plan(made, digits) == (made, "")

  def test_a_dense_strategy_is_only_checked(self, digits):
    config = support.make_config(strategy="fedavg", mcu_flash_kb=64)
    assert plan(config, digits, is_sparse=False)[0] == config
    config = support.make_config(strategy="fedavg", mcu_flash_kb=32)
    with pytest.raises(BudgetError, match="no density from 1 to 1 fits"):
      plan(config, digits, is_sparse=False)


class TestAdopt:
  def begun(self, folder, **changes):
    run = RunDirectory(folder / "run")
    run.claim(support.make_config(**changes))
    return run

  def test_a_new_directory(self, tmp_path):
    config = support.make_config(mcu_flash_kb=11)
    assert density_budget.adopt(config, RunDirectory(tmp_path / "new")) is config

  def test_the_same_command_goes_on_with_what_was_chosen(self, tmp_path):
    run = self.begun(
      tmp_path, mcu_flash_kb=11, target_density=0.0625, mcu_density_limit=0.1
    )
    config = support.make_config(mcu_flash_kb=11, target_density=0.1)
    adopted = density_budget.adopt(config, run)
    assert (adopted.target_density, adopted.mcu_density_limit) == (0.0625, 0.1)
    run.check(adopted)
    assert run.flags.read_text() == config_lib.flagfile_text(adopted)

  def test_the_run_s_own_flags_are_left_alone(self, tmp_path):
    changes = {"mcu_flash_kb": 11, "target_density": 0.0625, "mcu_density_limit": 0.1}
    run = self.begun(tmp_path, **changes)
    config = support.make_config(**changes)
    assert density_budget.adopt(config, run) is config

  def test_another_limit_is_another_run(self, tmp_path):
    run = self.begun(
      tmp_path, mcu_flash_kb=11, target_density=0.0625, mcu_density_limit=0.1
    )
    config = support.make_config(mcu_flash_kb=11, target_density=0.2)
    assert density_budget.adopt(config, run) is config

  def test_a_damaged_file_is_left_to_the_check(self, tmp_path):
    run = self.begun(tmp_path)
    run.flags.write_text("--mcu_density_limit=ten\n")
    config = support.make_config()
    assert density_budget.adopt(config, run) is config
