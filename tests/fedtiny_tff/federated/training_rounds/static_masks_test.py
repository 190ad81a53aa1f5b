"""Methods whose mask is found before the first round: it stays, and so do the bytes."""

import numpy as np
import pytest

from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.federated.training_rounds import rounds, traffic
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.sparsity import densities
from fedtiny_tff.strategies import base, registry
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff.federated import support

METHODS = ("snip", "synflow", "fl_pqsu")
CNN = support.small_cnn()
CONFIG = PruningConfig(0.2, 3, adjust_every_rounds=1)
SHAPE = (4, 4, 1)


@pytest.fixture(name="federation", scope="module")
def fixture_federation(tmp_path_factory):
  generator = np.random.default_rng(0)
  clients = [
    support.Client(
      support.random_part(generator, examples, SHAPE, 3),
      support.random_part(generator, 2, SHAPE, 3),
    )
    for examples in (6, 9)
  ]
  return support.write_store(tmp_path_factory.mktemp("static") / "records", clients)


def _started(strategy):
  """Returns the state before the first round."""
  weights = ModelWeights(*(v.numpy() for v in tfmot_masking.initial_weights(CNN, 0)))
  public = support.random_part(np.random.default_rng(1), 12, SHAPE, 3)
  (mask,) = strategy.candidate_masks(base.Pretrained(CNN, weights, public), CONFIG)
  assert strategy.initial_memory(mask) == ()
  return support.make_state(weights, mask)


@pytest.mark.usefixtures("local_runtime")
@pytest.mark.parametrize("method", METHODS)
def test_rounds_train_what_the_mask_left(federation, method):
  store, references = federation
  strategy = registry.get_strategy(method)
  state = start = _started(strategy)
  counts = CNN.spec.active_counts(start.mask)
  assert sum(counts) == densities.total_count(CNN.spec, 0.2) == 25
  events = strategy.plan_events(CNN.spec, counts, CONFIG)
  assert events == ()
  builder = rounds.RoundBuilder(
    CNN, store, training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1), 1, 4),
    strategy, events, active_count=25, seed=0,
  )  # fmt: skip
  sizes = ModelWeights(125, 41, 10, 10)
  found = traffic.round_traffic(sizes, CNN.spec, 25, strategy, events)
  for number in range(3):
    computation = builder.computation(number)
    # Values, biases and twice ten channels; on the way down positions besides, with
    # round and rate; on the way up the client's weight and three metrics.
    model_bytes = 4 * (25 + 41 + 20)
    assert found.upload_bytes == computation.upload_bytes == model_bytes + 4 + 12
    assert found.download_bytes == computation.download_bytes
    assert found.download_bytes_mask_held == model_bytes + 4 + 4
    instruction = builder.instruction(number, 0.1)
    state, metrics = computation.run(state, references, instruction)
    assert float(metrics.examples) == 15
  assert found.adjust_upload_bytes == 0
  np.testing.assert_array_equal(state.mask, start.mask)
  assert not np.any(state.weights.prunable[~start.mask])
  # All but those of units that no example activates.
  moved = state.weights.prunable != start.weights.prunable
  assert np.count_nonzero(moved[start.mask]) > 12


@pytest.mark.parametrize("method", METHODS)
def test_a_device_pays_for_the_active_weights_alone(method):
  strategy = registry.get_strategy(method)
  profile = model_profile.profile_model(CNN)
  workload = device_cost.Workload(100, 2, 10)
  counts = (10, 7, 5, 3)
  paid = strategy.round_cost(profile, workload, counts, CNN.spec.blocks)
  assert paid == cost.sparse_cost(profile, workload, counts)
  assert paid.adjust_round_flops == 3 * paid.forward_flops
  # 25 + 41 values and gradients, 25 indices.
  assert paid.memory_bytes == 4 * (2 * (25 + 41) + 25)


def test_methods_find_different_masks():
  masks = [_started(registry.get_strategy(method)).mask for method in METHODS]
  assert len({mask.tobytes() for mask in masks}) == len(METHODS)
