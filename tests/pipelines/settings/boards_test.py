"""The table of boards, and budgets out of flags."""

import re

import pytest

from fedtiny_tff.errors import InputError
from pipelines.settings import boards
from tests.pipelines import support
from tflite_export.mcu_options import McuOptions


@pytest.mark.parametrize("name", boards.BOARDS)
def test_figures_are_plausible(name):
  board = boards.BOARDS[name]
  assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
  assert 64 <= board.ram_kb <= board.flash_kb <= 16_384
  # Flash comes in powers of two.
  assert board.flash_kb & (board.flash_kb - 1) == 0
  assert re.search(r"[A-Z]\w+.*, .*(Datasheet|Specification|DS\d{5})", board.source)


def test_the_field_s_reference_board():
  # MLPerf Tiny's reference platform.
  assert boards.BOARDS["nucleo_l4r5zi"].flash_kb == 2048
  assert boards.BOARDS["nucleo_l4r5zi"].ram_kb == 640
  assert len(boards.BOARDS) >= 10


class TestMcuOptions:
  def test_by_default_nothing_is_limited(self):
    options = boards.mcu_options(support.make_config())
    assert options == McuOptions()
    assert not options.is_bounded

  def test_a_kb_is_1024_bytes(self):
    config = support.make_config(mcu_flash_kb=20, mcu_ram_kb=3)
    options = boards.mcu_options(config)
    assert (options.flash_bytes, options.ram_bytes) == (20_480, 3_072)

  def test_one_limit_alone(self):
    options = boards.mcu_options(support.make_config(mcu_ram_kb=3))
    assert (options.flash_bytes, options.ram_bytes) == (None, 3_072)
    assert options.is_bounded

  def test_a_board_sets_both(self):
    options = boards.mcu_options(support.make_config(board="nucleo_l432kc"))
    assert (options.flash_bytes, options.ram_bytes) == (262_144, 65_536)

  def test_what_is_given_wins(self):
    config = support.make_config(board="nucleo_l432kc", mcu_ram_kb=48)
    options = boards.mcu_options(config)
    assert (options.flash_bytes, options.ram_bytes) == (262_144, 49_152)

  def test_numbers_and_names(self):
    config = support.make_config(
      mcu_activation_bits=16, mcu_float_io=True, mcu_keep_names=True
    )
    assert boards.mcu_options(config) == McuOptions(16, True, True)


class TestRefused:
  def test_an_unknown_board_lists_all(self):
    with pytest.raises(InputError) as caught:
      support.make_config(board="toaster")
    assert "'toaster'" in str(caught.value)
    assert all(name in str(caught.value) for name in boards.BOARDS)

  @pytest.mark.parametrize("name", ["mcu_flash_kb", "mcu_ram_kb"])
  @pytest.mark.parametrize("value", [-1, 2**22 + 1])
  def test_budgets_out_of_range(self, name, value):
    with pytest.raises(InputError, match=f"--{name} must be at"):
      support.make_config(**{name: value})

  @pytest.mark.parametrize("bits", [0, 4, 32])
  def test_other_bits(self, bits):
    with pytest.raises(InputError, match=f"must be 8 or 16, got {bits}"):
      support.make_config(mcu_activation_bits=bits)

  @pytest.mark.parametrize(
    "changes",
    [
      {"calibration_source": "clients"},
      {"calibration_ranges": "percentile"},
      {"public_samples_per_class": 0},
    ],
  )
  def test_16_bits_without_samples(self, changes):
    with pytest.raises(InputError, match=f"--{next(iter(changes))}=.*ranges only"):
      support.make_config(mcu_activation_bits=16, **changes)
    support.make_config(mcu_activation_bits=16, targets=["android"], **changes)
    support.make_config(mcu_activation_bits=8, **changes)


def test_the_documented_table_is_this_one():
  text = (support.ROOT / "docs" / "microcontrollers.md").read_text()
  rows = re.findall(
    r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| (.*) \|$", text, re.MULTILINE
  )
  assert rows == [
    (name, f"{board.flash_kb:,}", f"{board.ram_kb:,}", board.source)
    for name, board in boards.BOARDS.items()
  ]
