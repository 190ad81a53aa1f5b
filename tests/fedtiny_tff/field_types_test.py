"""Plain fields are what they say; everything else is left to the dataclass."""

import dataclasses
from typing import Optional

import numpy as np
import pytest

from fedtiny_tff import field_types
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.strategies.plan import FedTinyPlan


@dataclasses.dataclass(frozen=True)
class Fields:
  whole: int = 1
  number: float = 0.5
  text: str = "a"
  flag: bool = True
  other: Optional[int] = None


@pytest.mark.parametrize(
  "given",
  [
    {},
    {"whole": np.int64(3)},
    {"number": 1},
    {"number": np.float32(2)},
    {"other": "any"},
  ],
)
def test_fields_as_they_say_are_taken(given):
  field_types.check(Fields(**given))


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ({"whole": "10"}, "whole must be a whole number, got '10'"),
    ({"whole": 2.0}, "whole must be a whole number, got 2.0"),
    ({"whole": True}, "whole must be a whole number, got True"),
    ({"number": None}, "number must be a number, got None"),
    ({"number": False}, "number must be a number, got False"),
    ({"number": 1j}, "number must be a number, got 1j"),
    ({"text": b"a"}, "text must be a text, got b'a'"),
  ],
)
def test_others_are_refused_by_name(given, said):
  with pytest.raises(ValueError) as refused:
    field_types.check(Fields(**given))
  assert str(refused.value) == said


_PLAN = {"target_density": 0.1, "rounds": 5}


@pytest.mark.parametrize(
  ("made", "given"),
  [
    (FedTinyPlan, _PLAN | {"target_density": "0.1"}),
    (FedTinyPlan, _PLAN | {"rounds": 5.0}),
    (FedTinyPlan, _PLAN | {"channel_block": "2"}),
    (optimizers.OptimizerConfig, {"learning_rate": "0.1"}),
    (
      training.TrainingConfig,
      {"optimizer": optimizers.OptimizerConfig(), "batch_size": 8.0},
    ),
  ],
)
def test_plans_are_checked_when_they_are_made(made, given):
  with pytest.raises(ValueError, match="must be a"):
    made(**given)
