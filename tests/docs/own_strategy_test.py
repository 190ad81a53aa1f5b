"""The strategy of docs/own_strategy.md works as it stands there."""

import importlib
import json
import pathlib
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.strategies import base, registry
from fedtiny_tff.strategies.adjustment import ServerModel
from pipelines import cost, stages
from pipelines.apps.progress import Progress
from pipelines.runs.run_directory import RunDirectory
from tests.docs import snippets, typed
from tests.fedtiny_tff import support as core_support
from tests.pipelines import support

_PAGE = support.ROOT / "docs" / "own_strategy.md"
_NAME = "evolution:Evolution"


@pytest.fixture(name="evolution", scope="module")
def fixture_evolution(tmp_path_factory):
  """Imports the page's first block of code, the whole file, from its folder."""
  blocks = re.findall(r"```python\n(.*?)```", _PAGE.read_text(), re.DOTALL)
  path = tmp_path_factory.mktemp("strategy") / "evolution.py"
  path.write_text(blocks[0])
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(path.parent)
    module = importlib.import_module(path.stem)
    place = "fedtiny_tff.strategies.evolution:Evolution"
    assert blocks[1].strip() == f'"{module.Evolution.name}": Deferred("{place}"),'
    yield module
  del sys.modules[path.stem]


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


@pytest.mark.usefixtures("evolution")
def test_a_run_with_it(tmp_path):
  config = support.make_config(
    strategy=_NAME, target_density=0.1, rounds=3, adjust_every_rounds=1,
    adjust_until_round=2, local_epochs=1, pretrain_epochs=1, dense_baseline=False,
    targets=[], output_dir=str(tmp_path / "run"),
  )  # fmt: skip
  run = RunDirectory(pathlib.Path(config.output_dir))
  stages.train(config, run, Progress())
  made = json.loads(run.report.read_text())
  assert made["run"]["strategy"] == _NAME
  (event,) = made["events"]
  dropped = sum(layer["dropped"] for layer in event["layers"])
  assert dropped == sum(layer["grown"] for layer in event["layers"]) > 0
  assert made["density"] == pytest.approx(0.1, abs=1e-3)


def test_its_commands_can_be_typed(evolution, monkeypatch):
  monkeypatch.chdir(support.ROOT)
  page = "docs/own_strategy.md"
  [block] = [
    each
    for each in snippets.blocks_of(_PAGE.read_text(), page)
    if each.language == "sh"
  ]
  commands = snippets.lines_of(block.text)
  assert list(map(typed.problem, commands)) == ["", "", ""]
  short = commands[0].replace(":Evolution", "")
  assert "strategy" in typed.problem(short)
  # And by the line that the page gives, under a short name.
  monkeypatch.setitem(registry.STRATEGIES, "evolution", evolution.Evolution)
  assert typed.problem(short) == ""


@pytest.mark.usefixtures("evolution")
def test_what_it_costs(capsys):
  given = ["--model=resnet8", f"--strategy={_NAME}", "--target_density=0.1"]
  assert support.call("cost", cost.main, *given, "--format=json") == 0
  assert json.loads(capsys.readouterr().out)["strategy"] == "evolution"


def test_the_page_names_every_hook():
  page = _PAGE.read_text()
  own = {name for name in vars(base.Strategy) if not name.startswith("_")}
  # What the example itself sets, and what follows from the rest.
  told = {"is_sparse", "name", "citation", "granularity", "prunes"}
  assert own - told <= set(re.findall(r"\w+", page))
