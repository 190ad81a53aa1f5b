"""The strategy of docs/own_strategy.md works as it stands there."""

import importlib.util
import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.strategies import base, registry
from fedtiny_tff.strategies.adjustment import ServerModel
from fedtiny_tff.tfmot_masking import ModelWeights
from pipelines import stages
from pipelines.apps.progress import Progress
from pipelines.runs.run_directory import RunDirectory
from tests.docs import snippets, typed
from tests.fedtiny_tff import support as core_support
from tests.pipelines import support

_PAGE = support.ROOT / "docs" / "own_strategy.md"


@pytest.fixture(name="evolution", scope="module")
def fixture_evolution(tmp_path_factory):
  """Imports the page's first block of code, the whole file."""
  blocks = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
  path = tmp_path_factory.mktemp("strategy") / "evolution.py"
  path.write_text(blocks[0])
  module_spec = importlib.util.spec_from_file_location("evolution", path)
  assert module_spec is not None
  assert module_spec.loader is not None
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  place = "fedtiny_tff.strategies.evolution:Evolution"
  assert blocks[1].strip() == f'"{module.Evolution.name}": Deferred("{place}"),'
  return module


def test_as_many_weights_come_as_go_and_the_draw_is_the_rounds_own(evolution):
  spec = core_support.spec_of_sizes(4, 6)
  weights = np.array([5, 4, 0, 0, 3, 2, 1, 0, 0, 0], np.float32)
  mask = tf.constant(weights != 0)
  vectors = ModelWeights(tf.constant(weights), *(tf.zeros([0]) for _ in range(3)))
  adjustment = evolution.Evolution().adjustment(
    base.AdjustmentPlan(spec.with_blocks([(0, 1)]), 0, (1, 1), 7, 0)
  )

  def moved(round_index):
    counts = tf.constant([1, 1])
    return adjustment.apply(
      ServerModel(vectors, mask, ()), (), counts, tf.constant(round_index)
    )

  masks = [moved(number).mask.numpy() for number in range(20)]
  for new in masks:
    assert spec.active_counts(new) == (2, 3)
    assert not new[[1, 6]].any()
  assert len({new.tobytes() for new in masks}) > 1
  np.testing.assert_array_equal(moved(3).mask, masks[3])


def test_a_run_with_it(evolution, monkeypatch, tmp_path):
  monkeypatch.setitem(registry.STRATEGIES, "evolution", evolution.Evolution)
  config = support.make_config(
    strategy="evolution", target_density=0.1, rounds=3, adjust_every_rounds=1,
    adjust_until_round=2, local_epochs=1, pretrain_epochs=1, dense_baseline=False,
    targets=[], output_dir=str(tmp_path / "run"),
  )  # fmt: skip
  run = RunDirectory(pathlib.Path(config.output_dir))
  stages.train(config, run, Progress())
  made = json.loads(run.report.read_text())
  assert made["run"]["strategy"] == "evolution"
  (event,) = made["events"]
  dropped = sum(layer["dropped"] for layer in event["layers"])
  assert dropped == sum(layer["grown"] for layer in event["layers"]) > 0
  assert made["density"] == pytest.approx(0.1, abs=1e-3)


def test_its_commands_can_be_typed(evolution, monkeypatch):
  monkeypatch.chdir(support.ROOT)
  page = "docs/own_strategy.md"
  [block] = [
    each for each in snippets.blocks_of(_PAGE.read_text(), page) if each.language == "sh"
  ]
  commands = snippets.lines_of(block.text)
  assert "strategy" in typed.problem(commands[0])
  monkeypatch.setitem(registry.STRATEGIES, "evolution", evolution.Evolution)
  assert list(map(typed.problem, commands)) == ["", "", ""]


def test_the_page_names_every_hook():
  page = _PAGE.read_text()
  own = {name for name in vars(base.Strategy) if not name.startswith("_")}
  # What the example itself sets, and what follows from the rest.
  told = {"is_sparse", "name", "citation", "granularity", "prunes"}
  assert own - told <= set(re.findall(r"\w+", page))
