"""Pages of the documentation show what was measured, and nothing that was not."""

import pathlib

import pytest

from benchmarks import documents

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", sorted(documents.tables()))
def test_pages_show_what_was_measured(page):
  rows = documents.tables()[page]
  assert len(rows.splitlines()) > 2
  assert rows in (ROOT / page).read_text()


def test_rows_by_hand():
  made = documents._privacy(
    [
      {
        "reports": "ε = 2", "epsilon": 1.9987, "noise_multiplier": 0.8786,
        "test_accuracy": 0.5555, "upload_bytes_per_client": 847824,
      },
      {
        "reports": "neither", "epsilon": None, "noise_multiplier": None,
        "test_accuracy": 0.735, "upload_bytes_per_client": 847632,
      },
    ]
  )  # fmt: skip
  assert made == [
    "| ε = 2 | 2.00 | 0.879 | 55.5 % | 847,824 bytes |",
    "| neither | | | 73.5 % | 847,632 bytes |",
  ]
  [random] = documents._selection_quality(
    [
      {
        "selection": "random candidate", "first_round_accuracy": 0.1267,
        "tenth_round_accuracy": 0.6092, "test_accuracy": 0.8243,
        "test_accuracy_deviation": 0.0769,
      }
    ]
  )  # fmt: skip
  assert random == "| `none` (random) | 12.7 % | 60.9 % | 82.4 % | 7.7 |"
  [row] = documents._misbehaving([{"one_of_ten_clients": "none", "mean": 0.9777}])
  assert row == "| nothing bad | 97.8 % |"
