"""What is planned without a run, and figures of every model under every method."""

import dataclasses
import functools
import math

import numpy as np
import pytest

from fedtiny_tff.costs import device_cost
from fedtiny_tff.errors import InputError
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import densities, schedules
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies import registry as strategies
from fedtiny_tff.strategies.pruning_config import PruningConfig
from pipelines.models import cost_figures
from tests.fedtiny_tff import support as core_support
from tests.fedtiny_tff.models import support as models
from tests.pipelines import support

CNN = core_support.cnn()
WORKLOAD = device_cost.Workload(100, 2, 64)

FEDTINY = strategies.get_strategy("fedtiny")


@pytest.mark.parametrize(
  ("sizes", "mean"),
  [([4, 7, 4], 5), ([0, 7, 0, 4], 5), ([0, 0, 1, 0], 1), ([0, 0], 1)],
)
def test_a_mean_client_is_one_of_those_that_train(sizes, mean):
  config = support.make_config(local_epochs=3, batch_size=2, max_local_steps=5)
  found = cost_figures.mean_workload(config, np.array(sizes, np.int64))
  assert found == device_cost.Workload(mean, 3, 2, 5)


def _plan(method, density, selection="adaptive", model_definition=CNN, **changes):
  config = PruningConfig(density, 300, **changes)
  strategy = strategies.get_strategy(method)
  blocked = _with_blocks_of(strategy, model_definition)
  return cost_figures.expected_plan(strategy, blocked, config, selection)


def _with_blocks_of(strategy, model_definition):
  """Returns the model with the blocks that a method needs."""
  granularity = schedules.GRANULARITIES[strategy.granularity or "block"]
  spec = granularity(model_definition.spec)
  return dataclasses.replace(model_definition, spec=spec)


class TestExpectedPlan:
  def test_dense_methods_ignore_the_density(self):
    found = _plan("fedavg", 0.1)
    assert found.active_counts == found.starting_counts == (54, 9)
    assert found.events == ()

  @pytest.mark.parametrize("counts", ["noisy", "uniform"])
  def test_noisy_layers_are_uniform_on_average(self, counts):
    # floor(0.5 * 63) = 31; half of 54 and of 9 leaves 0.5 to lose.
    assert _plan("fedtiny", 0.5, layer_densities=counts).active_counts == (27, 4)

  def test_other_layer_densities_are_their_own(self):
    found = _plan("fedtiny", 0.5, layer_densities="erk").active_counts
    assert found == densities.erk_counts(CNN.spec, 0.5, np.random.default_rng(0))
    assert found != (27, 4)

  def test_events_are_those_of_a_run(self):
    found = _plan("fedtiny", 0.5, adjust_every_rounds=40).events
    assert [(e.round_index, e.block) for e in found] == [(40, 1), (80, 0)]
    entire = _plan("prunefl", 0.5, adjust_every_rounds=40).events
    assert [(e.round_index, e.block) for e in entire] == [(40, 0), (80, 0)]
    assert _plan("fedtiny", 0.5, adjust_until_round=0).events == ()

  @pytest.mark.parametrize(
    ("method", "selection", "candidates"),
    [
      # floor(0.1 / 0.05 + 0.5).
      ("fedtiny", "adaptive", 2),
      ("fedtiny", "vanilla", 2),
      ("fedtiny", "none", 0),
      ("prunefl", "adaptive", 0),
    ],
  )
  def test_only_fedtiny_selects(self, method, selection, candidates):
    found = _plan(method, 0.05, selection)
    assert found.pool_size == candidates
    assert found.pools_statistics == (selection == "adaptive")

  def test_a_model_that_shrinks_starts_with_more(self):
    found = _plan("lotteryfl", 0.5, adjust_every_rounds=40)
    assert found.starting_counts == (54, 9)
    assert found.active_counts == (27, 4)
    # sqrt(54 * 27) = 38.2 and sqrt(9 * 4) = 6.
    assert [event.counts for event in found.events] == [(16, 3), (11, 2)]
    assert found.most_active == 63

  def test_others_keep_what_they_start_with(self):
    found = _plan("fedtiny", 0.5)
    assert found.active_counts == found.starting_counts == (27, 4)
    assert found.most_active == cost_figures.MaskPlan((27, 4)).most_active == 31

  def test_what_the_method_cannot_do_is_bad_input(self):
    with pytest.raises(InputError, match="none of the 300 rounds has one"):
      _plan("lotteryfl", 0.5, adjust_until_round=0)

  def test_a_pool_size_that_is_asked_for_counts(self):
    assert _plan("fedtiny", 0.05, pool_size=7).pool_size == 7


class TestFindData:
  def test_what_a_model_was_made_for(self):
    found = cost_figures.find_data("ds_cnn", None, None)
    assert found == cost_figures.DataShape((49, 10, 1), 12)

  def test_what_is_asked_for_wins(self):
    found = cost_figures.find_data("ds_cnn", (39, 40, 1), None)
    assert found == cost_figures.DataShape((39, 40, 1), 12)
    found = cost_figures.find_data("ds_cnn", None, 3)
    assert found == cost_figures.DataShape((49, 10, 1), 3)

  def test_of_the_users_model_nothing_is_known(self):
    found = cost_figures.find_data("mine.keras", (5,), 3)
    assert found == cost_figures.DataShape((5,), 3)
    with pytest.raises(InputError, match=r"--input_shape is missing: mine\.keras is"):
      cost_figures.find_data("mine.keras", None, 3)

  def test_an_unknown_model_is_refused(self):
    with pytest.raises(InputError, match="unknown model 'vgg99'"):
      cost_figures.find_data("vgg99", None, None)


def test_the_model_has_the_blocks_asked_for():
  def blocks(granularity):
    config = support.make_config(model="digits_cnn", granularity=granularity)
    data = cost_figures.find_data("digits_cnn", None, None)
    planned = cost_figures.plan_models(config, data, base.Strategy())
    assert planned.full is planned.pretrained is planned.trained
    return len(planned.trained.spec.blocks)

  assert [blocks(name) for name in ("block", "layer", "entire")] == [3, 5, 1]


class TestFiguresByHand:
  """support.cnn: 54 and 9 prunable weights of 94, 5 batch-norm channels."""

  def test_fedtiny(self):
    plan = cost_figures.MaskPlan((27, 4), _plan("fedtiny", 0.5).events, 3)
    found = cost_figures.CostModel(CNN, WORKLOAD).forecast(FEDTINY, plan)
    assert found["density"] == 31 / 63
    assert found["density_all_parameters"] == (31 + 31) / 94
    assert found["parameter_bytes"] == found["gradient_bytes"] == 4 * (31 + 31)
    assert found["index_bytes"] == 4 * 31
    # ceil(0.3 * 27) pairs.
    assert found["buffer_bytes"] == 8 * 9
    assert found["memory_bytes"] == 2 * 248 + 124 + 72
    # Weights, the other parameters, twice 5 channels; then a weight and 3 metrics.
    assert found["upload_bytes"] == 4 * (31 + 31 + 10) + 16
    # The first event of conv2, at round 20: ceil(0.15 (1 + cos(0.2 pi)) 27) = 8.
    assert found["adjust_upload_bytes"] == found["upload_bytes"] + 8 * 8
    # A bit for each of 63 weights, round and rate.
    assert found["position_bytes"] == 8
    assert found["download_bytes"] == 4 * (31 + 31 + 10) + 8 + 8
    assert found["download_bytes_mask_held"] == 4 * (31 + 31 + 10) + 8
    assert found["selection_upload_bytes"] == 3 * (5 * 3 * 8 + 3 * 4)
    # Bitmaps: 27 values and 54 bits, 4 values and 9 bits; 31 values.
    assert found["stored_bytes"] == (108 + 7) + (16 + 2) + 4 * 31
    assert found["stored_layers"] == {"dense": 0, "bitmap": 2, "coo": 0, "csr": 0}

  def test_a_model_that_shrinks_pays_for_the_dense_one(self):
    strategy = strategies.get_strategy("lotteryfl")
    model = cost_figures.CostModel(_with_blocks_of(strategy, CNN), WORKLOAD)
    found = model.forecast(strategy, _plan("lotteryfl", 0.5))
    assert found["density"] == 31 / 63
    # Bitmaps of what is left in the end, as of any other method.
    assert found["stored_bytes"] == (108 + 7) + (16 + 2) + 4 * 31
    for name in (
      "memory_bytes", "forward_flops", "adjust_round_flops", "training_flops_per_round",
      "upload_bytes", "download_bytes", "position_bytes",
    ):  # fmt: skip
      assert found[name] == found["dense"][name], name
    assert found["adjust_upload_bytes"] == found["upload_bytes"]

  def test_dense_stands_beside_it(self):
    model = cost_figures.CostModel(CNN, WORKLOAD)
    plan = _plan("fedtiny", 0.5)
    found = model.beside_dense(FEDTINY, plan)
    assert found["dense"] == model.figures(base.Strategy(), _plan("fedavg", 0.5))
    assert found["dense"]["memory_bytes"] == 8 * 94
    assert found["dense"]["position_bytes"] == 0
    assert found["dense"]["stored_bytes"] == 4 * 94
    assert set(found) == set(found["dense"]) | {"dense"}
    full = {"density": 1.0, "density_all_parameters": 1.0}
    with_densities = model.forecast(FEDTINY, plan)
    assert with_densities["dense"] == found["dense"] | full
    assert set(with_densities) == set(found) | set(full)


@functools.cache
def _cost_model(name, width, granularity="block"):
  found = models.get_model(name, models.TINY[name], 3, width)
  spec = schedules.GRANULARITIES[granularity](found.spec)
  found = dataclasses.replace(found, spec=spec)
  return found, cost_figures.CostModel(found, WORKLOAD)


def _check(own, dense):
  for key, value in own.items():
    assert math.isfinite(value), key
    assert value >= 0, key
    assert isinstance(value, float) == ("flops" in key or "density" in key), key
  parts = ("parameter_bytes", "gradient_bytes", "index_bytes", "buffer_bytes")
  assert own["memory_bytes"] == sum(own[part] for part in parts)
  for key in (
    "forward_flops",
    "training_flops_per_round",
    "stored_bytes",
    "upload_bytes",
  ):
    assert 0 < own[key] <= dense[key], key
  assert own["adjust_round_flops"] >= 3 * own["forward_flops"]
  assert own["parameter_bytes"] <= dense["parameter_bytes"] == 4 * own["parameters"]


@pytest.mark.parametrize(
  "method", ["fedavg", "fedtiny", "prunefl", "feddst", "fedrts", "lotteryfl"]
)
@pytest.mark.parametrize(
  "width",
  [
    pytest.param(0.1, marks=pytest.mark.slow),
    1.0,
    pytest.param(1.5, marks=pytest.mark.slow),
  ],
)
@pytest.mark.parametrize("name", registry.MODELS)
def test_every_model_under_every_method_is_sane(name, width, method):
  strategy = strategies.get_strategy(method)
  found, model = _cost_model(name, width, strategy.granularity or "block")
  size = found.spec.size
  for density in (1.0, 0.5, 0.01, 0.0001):
    plan = _plan(method, density, model_definition=found)
    own = model.forecast(strategy, plan)
    dense = own.pop("dense")
    assert sum(own.pop("stored_layers").values()) == len(found.spec.layers)
    _check(own, dense)
    active = size if method == "fedavg" else densities.total_count(found.spec, density)
    assert own["density"] == active / size
    assert (own["adjust_upload_bytes"] > 0) == bool(plan.events)


@pytest.mark.parametrize("method", ["small_dense", "federated_pruning"])
@pytest.mark.parametrize(
  "name",
  [
    "digits_cnn", pytest.param("resnet8", marks=pytest.mark.slow),
    pytest.param("autoencoder", marks=pytest.mark.slow),
  ],
)  # fmt: skip
def test_smaller_models_stand_beside_the_full_one(name, method):
  config = support.make_config(model=name, target_density=0.2, width=0.5)
  data = cost_figures.DataShape(models.TINY[name], 3)
  strategy = strategies.get_strategy(method)
  planned = cost_figures.plan_models(config, data, strategy)
  plan = cost_figures.expected_plan(
    planned.strategy, planned.trained, config.pruning, config.selection
  )
  model = cost_figures.CostModel(planned.trained, WORKLOAD, planned.full)
  own = model.forecast(planned.strategy, plan)
  full = models.profile(name, models.TINY[name], 3, 0.5)
  small = model_profile.profile_model(planned.trained)
  dense = own.pop("dense")
  unpruned = full.parameters - sum(full.prunable)
  allowed = int(0.2 * sum(full.prunable))
  if method == "small_dense":
    assert small.parameters <= allowed + unpruned
  else:
    assert sum(small.prunable) <= allowed
  assert own["parameters"] == small.parameters
  assert own["density"] == sum(small.prunable) / sum(full.prunable)
  assert own["density_all_parameters"] == small.parameters / full.parameters
  assert own["memory_bytes"] == 8 * small.parameters
  assert own["forward_flops"] == 2 * small.macs
  assert own["stored_bytes"] == 4 * small.parameters
  assert dense["density"] == dense["density_all_parameters"] == 1.0
  assert dense["parameters"] == full.parameters
  assert dense["memory_bytes"] == 8 * full.parameters
  assert dense["forward_flops"] == 2 * full.macs
  # Nothing is sent at an event that is not sent in any round.
  adjusted = own["upload_bytes"] if plan.events else 0
  assert own["adjust_upload_bytes"] == adjusted
  assert bool(plan.events) == (method == "federated_pruning")
  assert own["position_bytes"] == own["selection_download_bytes"] == 0


@pytest.mark.parametrize("name", ["digits_cnn", "resnet8", "ds_cnn", "autoencoder"])
def test_vector_sizes_are_those_of_training(name):
  found, model = _cost_model(name, 0.1)
  assert model.vector_sizes == tfmot_masking.vector_sizes(found)


def test_what_prunefl_would_cost_a_run_of_another_method():
  config = support.make_config(model="digits_cnn", strategy="fedtiny")
  data = cost_figures.find_data("digits_cnn", None, None)
  rival = strategies.get_strategy("prunefl")
  run = cost_figures.plan_models(config, data, FEDTINY)
  found = cost_figures.prunefl(config, run.full, WORKLOAD)
  own = cost_figures.plan_models(config, data, rival)
  plan = cost_figures.expected_plan(rival, own.trained, config.pruning, "none")
  assert found == cost_figures.CostModel(own.trained, WORKLOAD).figures(rival, plan)
  # Every weight has a gradient, pruned or not; digits_cnn has 37,498 parameters.
  assert found["gradient_bytes"] == 4 * 37_498
