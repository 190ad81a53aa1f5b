"""Runs whose devices train a smaller dense model: planned, trained and reported."""

import io
import json
from typing import Any

import numpy as np
import pytest
import rich.console

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies import registry as strategies
from pipelines import run_report
from pipelines.apps.progress import Progress
from pipelines.models import planned_model
from pipelines.runs import model_files
from pipelines.runs.run_directory import RunDirectory
from pipelines.training import experiments, training_pipeline
from tests.pipelines import support
from tflite_export.artifacts import BudgetError

jsonschema = pytest.importorskip("jsonschema")

SMALLER = ("small_dense", "federated_pruning")
# digits_cnn: a stem of 144, batch norms of 2 · 144, biases of 64 and 10.
UNPRUNED = 506


def _plan(**changes):
  config = support.make_config(**changes)
  strategy = strategies.get_strategy(config.strategy)
  return planned_model.plan_models(config, (8, 8, 1), 10, strategy)


def _progress():
  return Progress(rich.console.Console(file=io.StringIO(), width=200))


class TestPlans:
  @pytest.mark.parametrize("strategy", SMALLER)
  def test_the_width_is_taken_off_the_one_asked_for(self, strategy):
    planned = _plan(strategy=strategy, width=0.5, target_density=0.3, channel_block=2)
    assert planned.full.spec.size < support.PRUNABLE / 3
    assert planned.trained.spec.size <= 0.31 * planned.full.spec.size
    blocks = [m.spec.channel_blocks for m in (planned.full, planned.trained)]
    assert blocks[0] == (2,) * 5
    assert set(blocks[1]) <= {1, 2}

  def test_other_methods_have_one_model(self):
    planned = _plan(strategy="prunefl")
    assert planned.full is planned.pretrained is planned.trained
    assert len(planned.full.spec.blocks) == 1

  @pytest.mark.parametrize("strategy", SMALLER)
  def test_what_cannot_be_is_bad_input(self, strategy):
    cases: tuple[tuple[dict[str, Any], str], ...] = (
      (
        {"target_density": 0.0001, "width": 0.05},
        "when every layer is down to one channel",
      ),
      ({"model": "mine.keras"}, "how is not known of your own one, --model=mine.keras"),
      ({"prune_for": "xnnpack"}, "--model=digits_cnn would not run sparse on ARM"),
    )
    for changes, said in cases:
      with pytest.raises(InputError, match=said) as caught:
        _plan(strategy=strategy, **changes)
      assert "\n" not in str(caught.value)
    with pytest.raises(
      InputError, match=f"--strategy={strategy} --target_density=0.0001: "
    ):
      _plan(strategy=strategy, target_density=0.0001, width=0.05)

  def test_a_dense_model_gains_nothing_from_sparse_kernels(self):
    config = support.make_config(
      strategy="small_dense", prune_for="xnnpack", model="mobilenet_v1_sparse"
    )
    planned = base.plan_one_model(
      strategies.get_strategy("small_dense"),
      registry.get_model("mobilenet_v1_sparse", (8, 8, 1), 10, 0.1),
    )
    with pytest.raises(
      InputError, match="--strategy=small_dense leaves the model dense"
    ):
      planned_model.check_purpose(config, planned.trained, planned.strategy.is_sparse)

  def test_a_budget_of_memory_is_held_to_the_smaller_model(self):
    # The full model in int8 takes more than 32 KiB of flash.
    fitting = support.make_config(
      strategy="small_dense", target_density=0.2, mcu_flash_kb=32
    )
    experiment = experiments.plan_experiment(fitting)
    assert experiments.within_budget(experiment, _progress()).config == fitting
    config = support.make_config(
      strategy="small_dense", target_density=0.9, mcu_flash_kb=32
    )
    experiment = experiments.plan_experiment(config)
    with pytest.raises(BudgetError, match=r"_density=0\.9, which may be lowered: "):
      experiments.within_budget(experiment, _progress())


def _trained(path, **changes):
  """Trains three rounds with an event after each but the first."""
  config = support.make_config(
    output_dir=str(path), target_density=0.25, rounds=3, num_clients=3, **changes
  )
  run = RunDirectory(path)
  experiment = experiments.plan_experiment(config)
  run.claim(config)
  progress = _progress()
  outcome = training_pipeline.train(experiment, run, progress)
  made = run_report.make_report(config, run, outcome, progress.seconds)
  schema = json.loads((support.ROOT / "pipelines/report.schema.json").read_text())
  jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(made)))
  return run, outcome, made


def _check_size(made, outcome, run):
  """Holds what is told to the kernels of the final model."""
  full, trained = outcome.models.full.spec, outcome.models.trained.spec
  model, masks = model_files.load(run.model)
  shapes = {layer.name: layer.shape for layer in trained.layers}
  assert {name: mask.shape for name, mask in masks.items()} == shapes
  assert all(mask.all() for mask in masks.values())
  kernels = [model.get_layer(layer.name).kernel.shape for layer in trained.layers]
  assert [tuple(shape) for shape in kernels] == list(shapes.values())
  kept = sum(int(np.prod(shape)) for shape in kernels)
  assert full.size == support.PRUNABLE
  assert made["density"] == kept / full.size
  assert made["density_all_parameters"] == pytest.approx(
    sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    / (support.PRUNABLE + UNPRUNED),
    # Biases that no gradient has reached yet are zeros.
    abs=0.002,
  )
  told = [(row["name"], tuple(row["shape"])) for row in made["layers"]]
  assert told == [(layer.name, layer.shape) for layer in full.layers]
  weights = sum(row["density"] * np.prod(row["shape"]) for row in made["layers"])
  assert weights == pytest.approx(kept)
  assert {row["density"] for row in outcome.sparse.rows} == {made["density"]}
  assert [row["density"] for row in made["selection"]] == [made["density"]]
  assert made["cost"]["dense"]["parameters"] == support.PRUNABLE + UNPRUNED
  assert made["cost"]["parameters"] < 0.27 * made["cost"]["dense"]["parameters"]
  assert made["cost"]["upload_bytes"] == outcome.sparse.rows[0]["bytes_up_per_client"]


@pytest.mark.slow
def test_a_small_dense_model_beside_the_full_one(tmp_path):
  run, outcome, made = _trained(tmp_path / "run", strategy="small_dense")
  _check_size(made, outcome, run)
  assert made["cost"]["parameters"] <= int(0.25 * support.PRUNABLE) + UNPRUNED
  assert made["events"] == []
  # Dense FedAvg trains the full model, from its own pre-trained weights.
  assert outcome.dense.state.weights.prunable.size == support.PRUNABLE
  assert made["accuracy"]["dense"] is not None
  stored = {path.name for path in run.state.iterdir()}
  assert {"pretrained", "pretrained_dense"} <= stored
  assert {"pretrain", "pretrain_dense"} <= set(made["seconds"])
  again = training_pipeline.train(
    experiments.plan_experiment(
      support.make_config(
        output_dir=str(run.path), target_density=0.25, rounds=3, num_clients=3,
        strategy="small_dense",
      )
    ),
    run,
    _progress(),
  )  # fmt: skip
  assert again.dense is not None
  for one, another in zip(
    again.dense.state.weights, outcome.dense.state.weights, strict=True
  ):
    np.testing.assert_array_equal(one, another)


@pytest.mark.slow
def test_federated_pruning(tmp_path):
  run, outcome, made = _trained(
    tmp_path / "run", strategy="federated_pruning", dense_baseline=False
  )
  _check_size(made, outcome, run)
  assert made["density"] <= 0.25
  assert made["accuracy"]["dense"] is None
  assert [event["round"] for event in made["events"]] == [1, 2]
  assert [row["adjusted_block"] for row in outcome.sparse.rows] == ["", 0, 0]
  for event in made["events"]:
    assert [row["name"] for row in event["layers"]] == [
      r["name"] for r in made["layers"]
    ]
    assert all(row["dropped"] == row["grown"] for row in event["layers"])
  *vectors, kept = outcome.sparse.state.memory
  assert vectors[0].size == support.PRUNABLE
  where = outcome.models.strategy.kept_weights(None, [kept])
  # The last round was an event: the small model is a part of the full one.
  np.testing.assert_array_equal(
    outcome.sparse.state.weights.prunable, vectors[0][where]
  )
