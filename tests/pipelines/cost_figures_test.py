"""What is planned without a run, and figures of every model under every method."""

import functools
import math

import numpy as np
import pytest

from fedtiny_tff import cost, densities, device_cost, tfmot_masking
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry
from fedtiny_tff.strategies import base
from pipelines import cost_figures
from tests.fedtiny_tff import support as core_support
from tests.fedtiny_tff.models import support as models
from tests.pipelines import support

CNN = core_support.cnn()
WORKLOAD = device_cost.Workload(100, 2, 64)


def _plan(method, density, selection="adaptive", model_definition=CNN, **changes):
  config = base.PruningConfig(density, 300, **changes)
  return cost_figures.expected_plan(method, model_definition, config, selection)


class TestExpectedPlan:
  def test_dense_methods_ignore_the_density(self):
    assert _plan("fedavg", 0.1) == cost_figures.MaskPlan((54, 9))

  @pytest.mark.parametrize("counts", ["noisy", "uniform"])
  def test_noisy_layers_are_uniform_on_average(self, counts):
    # floor(0.5 * 63) = 31; half of 54 and of 9 leaves 0.5 to lose.
    assert _plan("fedtiny", 0.5, layer_counts=counts).active_counts == (27, 4)

  def test_other_layer_densities_are_their_own(self):
    found = _plan("fedtiny", 0.5, layer_counts="erk").active_counts
    assert found == densities.erk_counts(CNN.spec, 0.5, np.random.default_rng(0))
    assert found != (27, 4)

  def test_events_are_those_of_a_run(self):
    found = _plan("fedtiny", 0.5, adjust_every_rounds=40).events
    assert [(e.round_index, e.block) for e in found] == [(40, 1), (80, 0)]
    assert _plan("prunefl", 0.5, adjust_every_rounds=40).events == found
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
    return len(cost_figures.find_model(config, data).spec.blocks)

  assert [blocks(name) for name in ("block", "layer", "entire")] == [3, 5, 1]


class TestFiguresByHand:
  """support.cnn: 54 and 9 prunable weights of 94, 5 batch-norm channels."""

  def test_fedtiny(self):
    plan = cost_figures.MaskPlan((27, 4), _plan("fedtiny", 0.5).events, 3)
    found = cost_figures.CostModel(CNN, WORKLOAD).forecast("fedtiny", plan)
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

  def test_dense_stands_beside_it(self):
    model = cost_figures.CostModel(CNN, WORKLOAD)
    plan = _plan("fedtiny", 0.5)
    found = model.beside_dense("fedtiny", plan)
    assert found["dense"] == model.figures("fedavg", _plan("fedavg", 0.5))
    assert found["dense"]["memory_bytes"] == 8 * 94
    assert found["dense"]["position_bytes"] == 0
    assert found["dense"]["stored_bytes"] == 4 * 94
    assert set(found) == set(found["dense"]) | {"dense"}
    full = {"density": 1.0, "density_all_parameters": 1.0}
    with_densities = model.forecast("fedtiny", plan)
    assert with_densities["dense"] == found["dense"] | full
    assert set(with_densities) == set(found) | set(full)


@functools.cache
def _cost_model(name, width):
  found = models.get_model(name, models.TINY[name], 3, width)
  return found, cost_figures.CostModel(found, WORKLOAD)


def _check(own, dense):
  for key, value in own.items():
    assert math.isfinite(value), key
    assert value >= 0, key
    assert isinstance(value, float) == ("flops" in key or "density" in key), key
  parts = ("parameter_bytes", "gradient_bytes", "index_bytes", "buffer_bytes")
  assert own["memory_bytes"] == sum(own[part] for part in parts)
  for key in ("forward_flops", "training_flops_per_round", "stored_bytes", "upload_bytes"):
    assert 0 < own[key] <= dense[key], key
  assert own["adjust_round_flops"] >= 3 * own["forward_flops"]
  assert own["parameter_bytes"] <= dense["parameter_bytes"] == 4 * own["parameters"]


@pytest.mark.parametrize("method", cost.COSTS)
@pytest.mark.parametrize("width", [0.1, 1.0, 1.5])
@pytest.mark.parametrize("name", registry.MODELS)
def test_every_model_under_every_method_is_sane(name, width, method):
  found, model = _cost_model(name, width)
  size = found.spec.size
  for density in (1.0, 0.5, 0.01, 0.0001):
    plan = _plan(method, density, model_definition=found)
    own = model.forecast(method, plan)
    dense = own.pop("dense")
    assert sum(own.pop("stored_layers").values()) == len(found.spec.layers)
    _check(own, dense)
    active = size if method == "fedavg" else densities.total_count(found.spec, density)
    assert own["density"] == active / size
    assert (own["adjust_upload_bytes"] > 0) == bool(plan.events)


@pytest.mark.parametrize("name", ["digits_cnn", "resnet8", "ds_cnn", "autoencoder"])
def test_vector_sizes_are_those_of_training(name):
  found, model = _cost_model(name, 0.1)
  assert model.vector_sizes == tfmot_masking.vector_sizes(found)
