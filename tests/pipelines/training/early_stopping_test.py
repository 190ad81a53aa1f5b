"""Runs end when held-out losses have not fallen for long enough, and only then."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fedtiny_tff.errors import InputError
from fedtiny_tff.sparsity import schedules
from pipelines.training import early_stopping
from pipelines.training.early_stopping import EarlyStopping
from tests.fedtiny_tff.support import quick
from tests.pipelines import support


def _rows(*losses):
  return [{"round": n, "eval_loss": loss} for n, loss in enumerate(losses)]


def _stops_after(rule, *losses):
  """Returns the round with which a run of these losses ends, or None."""
  rows = _rows(*losses)
  ends = (n for n in range(len(rows)) if rule.is_due(rows[: n + 1]))
  return next(ends, None)


@pytest.mark.parametrize(
  ("patience", "losses", "end"),
  [
    (1, (3, 2, 2.5, 1), 2),
    (2, (3, 2, 2.5, 1, 1.5, 1.5), 5),
    # As good is not better.
    (2, (1, 1, 1, 1), 2),
    (3, (3, 2, 1), None),
    (0, (1, 2, 3, 4), None),
    (1, (), None),
    # Evaluated every third round: only there it can end.
    (2, ("", "", 2, "", "", 3, "", "", 1), 5),
    (4, ("", "", 2, "", "", 3, "", "", 4), 8),
    (1, ("", "", ""), None),
  ],
)
def test_it_ends_where_counted_by_hand(patience, losses, end):
  assert _stops_after(EarlyStopping(patience), *losses) == end


def test_losses_before_the_last_adjustment_do_not_count():
  losses = (1, 5, 6, 7, 4, 3, 4, 4)
  assert _stops_after(EarlyStopping(2), *losses) == 2
  # From round 3 on: 7, 4, 3, 4, 4.
  assert _stops_after(EarlyStopping(2, first_round=3), *losses) == 7
  assert EarlyStopping(2, first_round=3).best_round(_rows(*losses)) == 5


def test_what_is_not_finite_is_no_loss():
  nan, inf = float("nan"), float("inf")
  assert EarlyStopping(2).best_round(_rows(nan, 3, 2, inf, nan)) == 2
  assert EarlyStopping(2).best_round(_rows(nan, inf, -inf)) is None
  assert _stops_after(EarlyStopping(2), nan, 3, nan, nan) == 3


def test_the_first_round_that_counts_is_that_of_the_last_adjustment():
  events = [schedules.AdjustmentEvent(n, 0, (1,)) for n in (1, 4)]
  assert early_stopping.after_adjustments(3, events) == EarlyStopping(3, 4)
  assert early_stopping.after_adjustments(3, []) == EarlyStopping(3, 0)


@quick
@given(
  st.lists(st.one_of(st.just(""), st.integers(0, 5)), max_size=30),
  st.integers(1, 5),
  st.integers(0, 10),
)
def test_it_ends_no_earlier_than_allowed(losses, patience, first_round):
  end = _stops_after(EarlyStopping(patience, first_round), *losses)
  if end is None:
    return
  counted = {
    n: v for n, v in enumerate(losses[: end + 1]) if n >= first_round and v != ""
  }
  assert end in counted
  assert end >= first_round + patience
  # None of the last rounds was better than all before.
  before = [v for n, v in counted.items() if n <= end - patience]
  assert min(before) <= min(counted.values())


def test_the_report_tells_where_it_ended():
  rule = EarlyStopping(1)
  assert early_stopping.summary(_rows(3, 2, 2.5), 9, rule) == {
    "planned": 9, "run": 3, "stopped_early": True, "best_round": 1,
  }  # fmt: skip
  assert early_stopping.summary(_rows("", ""), 2, rule) == {
    "planned": 2, "run": 2, "stopped_early": False, "best_round": None,
  }  # fmt: skip


def test_a_negative_number_of_rounds_is_refused():
  with pytest.raises(InputError, match="--early_stopping must be at least 0, got -1"):
    support.make_config(early_stopping=-1)
