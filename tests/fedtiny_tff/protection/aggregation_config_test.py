"""Ways to put reports together that cannot be are refused when they are named."""

import dataclasses

import pytest

from fedtiny_tff.errors import InputError
from fedtiny_tff.protection import aggregation_config
from fedtiny_tff.protection.aggregation_config import AGGREGATIONS, Aggregation
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.secure_config import BITWIDTH, SecureSums

PRIVACY = Privacy(1.0, 3.0, 0)
SECURE = SecureSums(BITWIDTH, 32, 5, 8)
HIDDEN = [{"privacy": PRIVACY}, {"secure": SECURE}]
STACKED = ["trimmed_mean", "median"]


def test_by_default_clients_weigh_what_their_examples_do():
  plain = aggregation_config.WEIGHTED_MEAN
  assert plain == Aggregation("mean", 0.2, 0, None, None)
  assert not plain.is_stacked
  assert not plain.hides_reports


def test_it_does_not_change():
  with pytest.raises(dataclasses.FrozenInstanceError):
    aggregation_config.WEIGHTED_MEAN.slots = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_reports_lie_side_by_side_where_they_are_compared(name):
  assert Aggregation(name, slots=3).is_stacked == (name in STACKED)


def test_an_unknown_name_is_refused():
  message = (
    "^aggregation must be one of mean, robust, trimmed_mean, median, got 'Mean'$"
  )
  with pytest.raises(InputError, match=message):
    Aggregation("Mean")


@pytest.mark.parametrize(
  ("share", "found"), [(-0.01, "-0.01"), (0.5, "0.5"), (float("nan"), "nan")]
)
def test_a_share_that_leaves_nobody_is_refused(share, found):
  message = rf"^trim_share must be in \[0, 0\.5\), got {found}$"
  with pytest.raises(InputError, match=message):
    Aggregation("trimmed_mean", share, 5)


def test_what_is_left_out_on_either_side():
  assert Aggregation("trimmed_mean", 0.0, 5).share == 0.0
  assert Aggregation("trimmed_mean", 0.499, 5).share == 0.499
  # All but the middle, whatever is said.
  assert Aggregation("median", 0.1, 5).share == 0.5


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("slots", [0, -1, 1001])
def test_reports_that_a_server_cannot_hold_are_refused(name, slots):
  message = f"^aggregation {name} holds .* of 1 to 1000 clients, not {slots}; set slots"
  with pytest.raises(InputError, match=message):
    Aggregation(name, slots=slots)


@pytest.mark.parametrize("slots", [1, 1000])
def test_as_many_as_it_can_are_taken(slots):
  assert Aggregation("median", slots=slots).slots == slots


@pytest.mark.parametrize("name", ["mean", "robust"])
def test_slots_are_no_matter_where_nothing_is_held(name):
  assert Aggregation(name, slots=5000).slots == 5000


@pytest.mark.parametrize("how", HIDDEN)
def test_of_hidden_reports_there_is_a_mean(how):
  assert Aggregation(**how).hides_reports
  for name in AGGREGATIONS[1:]:
    message = f"^aggregation {name} looks at reports one by one, .*; take mean$"
    with pytest.raises(InputError, match=message):
      Aggregation(name, slots=3, **how)


class TestOfScores:
  @pytest.mark.parametrize("how", [{}, {"privacy": PRIVACY}, {"secure": SECURE}])
  def test_means_stay_what_they_are(self, how):
    plain = Aggregation(**how)
    assert plain.of_scores(5) is plain

  @pytest.mark.parametrize("name", STACKED)
  def test_what_most_agree_on_stays_so(self, name):
    how = Aggregation(name, 0.1, 7)
    assert how.of_scores(5) == Aggregation(name, 0.1, 5)

  def test_extremes_are_left_out_where_models_are_clipped(self):
    assert Aggregation("robust", 0.1).of_scores(5) == Aggregation(
      "trimmed_mean", 0.1, 5
    )

  @pytest.mark.parametrize(
    ("how", "clients", "message"),
    [
      (
        Aggregation("median", slots=4),
        5,
        "^5 clients .* median holds 4 side by side; ",
      ),
      (
        Aggregation("robust"),
        1001,
        "^aggregation robust holds .* 1000 clients, not 1001",
      ),
      (
        Aggregation(secure=SECURE),
        6,
        "^6 clients .* have room for 5; .* of SecureSums$",
      ),
    ],
  )
  def test_too_many_clients_are_refused(self, how, clients, message):
    how.of_scores(clients - 1)
    with pytest.raises(InputError, match=message):
      how.of_scores(clients)


def test_both_may_hide_them():
  assert Aggregation(privacy=PRIVACY, secure=SECURE).hides_reports
