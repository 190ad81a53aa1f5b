"""Strategies by name."""

import sys

import numpy as np
import pytest

from fedtiny_tff.costs import device_cost
from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, fedtiny, registry
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff import support


def test_names_give_their_methods():
  assert type(registry.get_strategy("fedavg")) is base.Strategy
  assert type(registry.get_strategy("fedtiny")) is fedtiny.FedTiny


def test_every_key_is_the_name_its_strategy_reports():
  for name in registry.STRATEGIES:
    assert registry.get_strategy(name).name == name


@pytest.mark.parametrize("name", registry.STRATEGIES)
def test_every_strategy_has_a_cost_and_keeps_what_it_says(name):
  strategy = registry.get_strategy(name)
  granularity = schedules.GRANULARITIES[strategy.granularity or "block"]
  spec = granularity(support.spec_of_sizes(40, 60))
  config = PruningConfig(0.5, 300)
  counts = strategy.expected_counts(spec, config)
  assert sum(counts) == (50 if strategy.is_sparse else 100)
  profile = ModelProfile(115, (40, 60), (1000, 100), 5, 0, 7, 0)
  workload = device_cost.Workload(3, 2, 2)
  paid = strategy.round_cost(profile, workload, counts, spec.blocks)
  dense = base.Strategy().round_cost(profile, workload, spec.sizes, spec.blocks)
  assert 0 < paid.forward_flops <= dense.forward_flops == 2 * profile.macs
  assert paid.memory_bytes > 0
  left = start = strategy.starting_counts(spec, counts)
  for event in strategy.plan_events(spec, start, config):
    plan = base.AdjustmentPlan(spec, event.block, event.counts, 0, sum(left))
    assert strategy.adjustment(plan).statistics_specs() is not None
    left = tuple(np.subtract(left, event.removed(spec)))
  assert left == counts


def test_an_unknown_name_is_refused_with_the_known_ones():
  with pytest.raises(InputError) as refused:
    registry.get_strategy("fedtinny")
  message = str(refused.value)
  assert message.startswith("strategy must be one of fedavg, fedtiny,")
  assert message.endswith("CLASS of your own, got 'fedtinny'; did you mean fedtiny?")


def test_strategies_of_a_users_own(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.chdir(tmp_path)
  (tmp_path / "own_strategies.py").write_text(
    "from fedtiny_tff.strategies import base\n"
    "class Mine(base.Strategy):\n"
    "  name = 'mine'\n"
    "class Nameless(base.Strategy): pass\n"
    "class Failing(base.Strategy):\n"
    "  def __init__(self): raise RuntimeError('not today')\n"
    "class Listed(base.Strategy):\n"
    "  name = ['mine']\n"
    "class Empty(base.Strategy):\n"
    "  name = ''\n"
    "class Marked(base.Strategy):\n"
    "  name = '[/]'\n"
    "class Shy(base.Strategy):\n"
    "  name = property(lambda self: 1 / 0)\n"
    "class Coarse(Mine):\n"
    "  granularity = 'model'\n"
  )
  made = registry.get_strategy("own_strategies:Mine")
  assert isinstance(made, base.Strategy)
  assert made.name == "mine"
  with pytest.raises(InputError, match=r"^strategy must be one of"):
    registry.get_strategy("own_strategies:base.Strategy")
  for name, said in (
    (
      "own_strategies:Nameless",
      "calls itself 'fedavg', as one of ours; set its `name`",
    ),
    ("own_strategies:Failing", "RuntimeError: not today; mend your code"),
    ("own_strategies:Listed", r"calls itself \['mine'\]; set its `name` to a word"),
    (
      "own_strategies:Empty",
      "calls itself ''; set its `name` to a word of at most 40 letters, such as 'ev",
    ),
    ("own_strategies:Marked", r"calls itself '\[/\]'; set its `name`"),
    ("own_strategies:Shy", "ZeroDivisionError: division by zero; mend your code"),
    (
      "own_strategies:Coarse",
      "its `granularity` is 'model'; set it to one of None, 'bl",
    ),
    ("own_strategies:Gone", "has no function or class 'Gone'; name one that it has"),
    (
      "collections:OrderedDict",
      r"makes OrderedDict, no Strategy; .* derived from fedtiny_tff\S+ase\.Strategy \(docs",
    ),
  ):
    with pytest.raises(InputError, match=said) as refused:
      registry.get_strategy(name)
    assert str(refused.value).startswith(f"strategy {name}")
