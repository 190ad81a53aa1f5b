"""Strategies by name."""

import pytest

from fedtiny_tff import cost
from fedtiny_tff.errors import InputError
from fedtiny_tff.strategies import base, fedtiny, registry
from tests.fedtiny_tff import support


def test_names_give_their_methods():
  assert type(registry.get_strategy("fedavg")) is base.Strategy
  assert type(registry.get_strategy("fedtiny")) is fedtiny.FedTiny


def test_every_key_is_the_name_its_strategy_reports():
  for name in registry.STRATEGIES:
    assert registry.get_strategy(name).name == name


@pytest.mark.parametrize("name", registry.STRATEGIES)
def test_every_strategy_has_a_cost_that_fits_it(name):
  strategy, entry = registry.get_strategy(name), cost.COSTS[name]
  assert strategy.is_sparse or entry.is_dense
  spec = support.spec_of_sizes(40, 60)
  config = base.PruningConfig(0.5, 300)
  assert bool(strategy.plan_events(spec, (20, 30), config)) == bool(entry.statistics)


def test_an_unknown_name_is_refused_with_the_known_ones():
  message = r"unknown strategy 'fedtinny': choose one of fedavg, fedtiny"
  with pytest.raises(InputError, match=message):
    registry.get_strategy("fedtinny")
