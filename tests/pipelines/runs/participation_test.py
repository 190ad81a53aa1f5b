"""Who takes part, who is lost, and rounds that are repeated for want of reports."""

import types
from typing import Any

import numpy as np
import pytest

from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.errors import InputError
from fedtiny_tff.protection import poisoning
from fedtiny_tff.strategies import fedtiny, registry
from pipelines.runs import participation
from tests.pipelines import support

FEDTINY = fedtiny.FedTiny()


def _data(population=40, training=5) -> Any:
  references = np.zeros([population, 4], np.int64)
  references[:, 2] = training
  return types.SimpleNamespace(
    references=references,
    reference=lambda k: ClientReference(*map(np.int64, (k, 0, 5, 2))),
    info=types.SimpleNamespace(num_classes=10),
  )


def _config(**changes):
  return support.make_config(
    **{"num_clients": 40, "clients_per_round": 20, "seed": 3, **changes}
  )


def _of(config, number=0, attempt=0):
  return participation.of_round(config, _data(), number, attempt)


def _names(who):
  return [int(client.client) for client in who.reporting]


def test_all_report_where_none_are_lost():
  who = _of(_config())
  assert (who.invited, len(who.reporting), who.dropped, who.late) == (20, 20, 0, 0)
  assert _names(who) == sorted(set(_names(who)))
  assert _names(who) == participation.drawn(_config(), _data(), "participants", 0)


def test_only_those_train_that_have_something_to_train_on():
  training = np.zeros(40, np.int64)
  training[[3, 8, 21]] = 1
  for limit, invited in ((2, 2), (20, 3), (0, 3)):
    who = participation.of_round(
      _config(clients_per_round=limit), _data(training=training), 0, 0
    )
    assert who.invited == len(who.reporting) == invited
    assert set(_names(who)) <= {3, 8, 21}
  nobody = participation.of_round(_config(), _data(training=0), 0, 0)
  assert (nobody.invited, nobody.reporting) == (0, [])


def test_who_is_lost_follows_from_seed_round_and_client():
  config = _config(client_dropout=0.3, client_stragglers=0.2)
  first = _of(config)
  assert _of(config) == first
  assert first.invited == 20 == len(first.reporting) + first.dropped + first.late
  assert _of(config, number=1) != first
  assert _of(_config(client_dropout=0.3, client_stragglers=0.2, seed=4)) != first
  # Those that are lost are of those that would report without.
  assert set(_names(first)) < set(_names(_of(_config())))


def test_as_many_are_lost_as_said():
  config = _config(client_dropout=0.3, client_stragglers=0.2)
  rounds = [_of(config, number) for number in range(100)]
  # Standard deviations: 10 and 9 of a thousand.
  assert sum(who.dropped for who in rounds) / 2000 == pytest.approx(0.3, abs=0.04)
  assert sum(who.late for who in rounds) / 2000 == pytest.approx(0.2, abs=0.04)


def test_another_attempt_draws_others():
  config = _config(client_dropout=0.5)
  assert _names(_of(config, 0, 1)) != _names(_of(config))
  everybody = _config(clients_per_round=0, client_dropout=0.5)
  assert _names(_of(everybody, 0, 1)) != _names(_of(everybody))


@pytest.mark.parametrize(
  ("changes", "misses"),
  [
    ({"clients_per_round": 0}, False),
    ({"clients_per_round": 40}, False),
    ({"clients_per_round": 39}, True),
    ({"clients_per_round": 0, "client_dropout": 0.1}, True),
    ({"clients_per_round": 0, "client_stragglers": 0.1}, True),
  ],
)
def test_whoever_is_lost_misses_rounds(changes, misses):
  assert (
    participation.misses_rounds(_config(**changes), len(_data().references)) is misses
  )


def test_bad_clients_are_drawn_for_an_attack_only():
  assert participation.poisoned(_config(), _data()) is poisoning.NOBODY
  config = _config(byzantine_attack="label_flip", byzantine_fraction=0.1)
  made = participation.poisoned(config, _data())
  assert (made.attack, len(made.clients), made.num_classes) == ("label_flip", 4, 10)


def test_reports_are_held_for_as_many_as_take_part():
  config = _config(aggregation="trimmed_mean", trim_share=0.3)
  made = participation.aggregated(config, 40, 5, FEDTINY)
  assert (made.name, made.trim_share, made.slots) == ("trimmed_mean", 0.3, 20)
  everybody = _config(aggregation="median", clients_per_round=0)
  assert participation.aggregated(everybody, 40, 5, FEDTINY).slots == 40


def test_rounds_can_have_what_they_need():
  participation.check(_config(min_reports=20), [5] * 40, FEDTINY)
  everybody = {"num_clients": 0, "clients_per_round": 0}
  with pytest.raises(InputError, match="of 1 to 1000 clients, not 2000; set slots, or"):
    participation.check(_config(**everybody, aggregation="median"), [5] * 2000, FEDTINY)
  robust = _config(**everybody, aggregation="robust")
  with pytest.raises(
    InputError, match=r"robust holds all scores .* of at most 1000 cli"
  ):
    participation.check(robust, [5] * 2000, FEDTINY)
  participation.check(robust, [5] * 2000, registry.STRATEGIES["fl_pqsu"]())
  with pytest.raises(InputError, match="--min_reports=50, but a round has only 40"):
    participation.check(_config(**everybody, min_reports=50), [5] * 40, FEDTINY)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"client_dropout": 0.6, "client_stragglers": 0.4}, "lose all clients"),
    ({"client_dropout": -0.1}, "--client_dropout must be at least 0"),
    ({"trim_share": 0.5}, r"--trim_share must be below 0\.5"),
    ({"byzantine_fraction": 1.5}, "--byzantine_fraction must be at most 1"),
    (
      {"byzantine_attack": "shout"},
      "--byzantine_attack must be one of none, sign_flip",
    ),
    ({"aggregation": "mode"}, "--aggregation must be one of mean, robust, trimmed"),
    ({"min_reports": 0}, "--min_reports must be at least 1"),
    (
      {"min_reports": 21},
      "--min_reports=21, but a round has only --clients_per_round=20",
    ),
  ],
)
def test_flags_that_cannot_be(changes, message):
  with pytest.raises(InputError, match=message):
    _config(**changes)


def _drawn(*numbers, purpose="participants", **changes):
  chosen = participation.chosen(_config(**changes), _data(), purpose, *numbers)
  return [int(reference.client) for reference in chosen]


def test_participants_are_distinct_clients_of_the_round():
  draws = [_drawn(number) for number in range(20)]
  assert all(draw == sorted(set(draw)) and len(draw) == 20 for draw in draws)
  assert draws == [_drawn(number) for number in range(20)]
  assert len({tuple(draw) for draw in draws}) > 1
  assert {client for draw in draws for client in draw} == set(range(40))


def test_participants_depend_on_seed_and_purpose():
  def series(**changes):
    return [_drawn(number, **changes) for number in range(20)]

  assert series() != series(seed=6)
  assert series() != series(purpose="selection")
