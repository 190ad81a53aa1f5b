"""The name that was meant, or none."""

import pytest

from fedtiny_tff import suggestions

_FLAGS = ("target_density", "dense_baseline", "layer_densities", "rounds", "run_dir")


@pytest.mark.parametrize(
  ("given", "meant"),
  [
    ("densty", "target_density"),
    ("target_densty", "target_density"),
    ("ROUNDS", "rounds"),
    ("round", "rounds"),
    ("baseline", "dense_baseline"),
    ("dir", "run_dir"),
    ("zzz", ""),
    ("", ""),
  ],
)
def test_the_nearest_name(given, meant):
  assert suggestions.nearest(given, _FLAGS) == meant


def test_the_whole_name_wins_over_a_part_of_another():
  assert suggestions.nearest("density", ["mcu_density_limit", "density"]) == "density"


@pytest.mark.parametrize("given", ["target", "targetss"])
def test_one_letter_more_or_less_is_a_slip(given):
  assert suggestions.nearest(given, ["target_delta", "targets"]) == "targets"


def test_of_equal_parts_the_shorter_name_wins():
  names = ["mcu_density_limit", "target_density"]
  assert suggestions.nearest("density", names) == "target_density"


def test_without_names_nothing_is_meant():
  assert suggestions.nearest("x", []) == ""


def test_a_question_names_it_or_is_empty():
  assert suggestions.question("rnu", ["run"], "--") == "; did you mean --run?"
  assert suggestions.question("zzz", ["run"]) == ""
