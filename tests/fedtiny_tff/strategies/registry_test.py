"""Strategies by name."""

import pytest

from fedtiny_tff.errors import InputError
from fedtiny_tff.strategies import base, fedtiny, registry


def test_names_give_their_methods():
  assert type(registry.get_strategy("fedavg")) is base.Strategy
  assert type(registry.get_strategy("fedtiny")) is fedtiny.FedTiny


def test_every_key_is_the_name_its_strategy_reports():
  for name in registry.STRATEGIES:
    assert registry.get_strategy(name).name == name


def test_an_unknown_name_is_refused_with_the_known_ones():
  message = r"unknown strategy 'fedtinny': choose one of fedavg, fedtiny"
  with pytest.raises(InputError, match=message):
    registry.get_strategy("fedtinny")
