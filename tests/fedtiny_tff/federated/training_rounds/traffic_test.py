"""Predicted bytes are those of the computations that are built, and right by hand."""

import numpy as np
import pytest
import tensorflow_federated as tff

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.federated.training_rounds import rounds, traffic
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, registry
from fedtiny_tff.strategies.pruning_config import PruningConfig, regular_events
from tests.fedtiny_tff.federated import support

# 125 prunable weights, 41 other parameters, 10 batch-norm channels.
CNN = support.small_cnn()
SIZES = ModelWeights(125, 41, 10, 10)
COUNTS = (16, 10, 8, 6)
ACTIVE = sum(COUNTS)
# Weight and three metrics.
REST = 4 + 12


@pytest.fixture(name="store", scope="module")
def fixture_store(tmp_path_factory):
  generator = np.random.default_rng(0)
  parts = [support.random_part(generator, 4, (4, 4, 1), 3) for _ in range(2)]
  path = tmp_path_factory.mktemp("traffic") / "records"
  return support.write_store(path, [support.Client(*parts)])[0]


def _events(counts=COUNTS):
  config = PruningConfig(0.32, 10, adjust_every_rounds=1, adjust_until_round=8)
  return regular_events(CNN.spec, counts, config)


def _predicted(method, active, events):
  strategy = registry.get_strategy(method)
  return traffic.round_traffic(SIZES, CNN.spec, active, strategy, events)


def test_the_sizes_are_those_of_the_model():
  assert tfmot_masking.vector_sizes(CNN) == SIZES


@pytest.mark.parametrize(
  ("method", "active", "events"),
  [
    ("fedtiny", ACTIVE, _events()),
    ("fedtiny", ACTIVE, _events()[1:2]),
    # Nothing can move in a full mask, and the rounds are adjusted all the same.
    ("fedtiny", 125, _events((54, 36, 20, 15))),
    ("fedtiny", ACTIVE, ()),
    ("prunefl", ACTIVE, _events()[:1]),
    ("fedmef", ACTIVE, _events()[:1]),
    ("fedavg", 125, ()),
  ],
  ids=[
    "every_block",
    "one_block",
    "full_mask",
    "no_event",
    "prunefl",
    "fedmef",
    "dense",
  ],
)
def test_equal_those_of_the_rounds_that_are_built(store, method, active, events):
  builder = rounds.RoundBuilder(
    CNN, store, training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1)),
    registry.get_strategy(method), events, active_count=active, seed=0,
  )  # fmt: skip
  adjusted = {event.round_index for event in events}
  built = {r: builder.computation(r) for r in range(10)}
  found = _predicted(method, active, events)
  for r, computation in built.items():
    if r not in adjusted:
      assert found.download_bytes == computation.download_bytes
      assert found.upload_bytes == computation.upload_bytes
    assert found.position_bytes == computation.position_bytes
  adjusting = [c.upload_bytes for r, c in built.items() if r in adjusted]
  assert found.adjust_upload_bytes == max(adjusting, default=0)


def test_fedtiny_by_hand():
  found = _predicted("fedtiny", ACTIVE, _events())
  # 40 values, 125 bits, 41 parameters, twice 10 channels; round and rate.
  assert found.download_bytes == (160 + 16 + 164 + 80) + 4 + 4
  assert found.position_bytes == 16
  assert found.download_bytes_mask_held == found.download_bytes - 16
  assert found.upload_bytes == (160 + 164 + 80) + REST
  # The first event of a block is its largest; pairs of 8 bytes.
  first = {event.block: sum(event.counts) for event in reversed(_events())}
  assert found.adjust_upload_bytes == found.upload_bytes + 8 * max(first.values())


def test_prunefl_adds_a_value_for_every_weight():
  found = _predicted("prunefl", ACTIVE, _events())
  assert found.adjust_upload_bytes == found.upload_bytes + 4 * 125
  assert _predicted("prunefl", ACTIVE, ()).adjust_upload_bytes == 0


def test_events_need_a_method_that_adjusts():
  event = schedules.AdjustmentEvent(1, 0, (1,))
  with pytest.raises(ValueError, match="'fedavg' never adjusts masks, asked for 0"):
    traffic.round_traffic(SIZES, CNN.spec, ACTIVE, base.Strategy(), [event])


class TestSelection:
  def test_by_hand(self):
    found = traffic.selection_traffic(SIZES, 3, ACTIVE)
    # Three times 40 values and 125 bits, 41 parameters and twice 10 channels once;
    # then two statistics of 10 channels per candidate.
    assert found.download_bytes == (3 * (160 + 16) + 164 + 80) + 3 * 80
    # Three sums in float64 per channel, and three metrics.
    assert found.upload_bytes == 3 * 10 * 3 * 8 + 3 * 12

  def test_without_pooled_statistics_only_scores_travel_up(self):
    found = traffic.selection_traffic(SIZES, 3, ACTIVE, adaptive=False)
    assert found.upload_bytes == 3 * 12

  def test_nothing_is_sent_for_no_candidates(self):
    found = traffic.selection_traffic(SIZES, 0, ACTIVE)
    assert found == traffic.SelectionTraffic(0, 0)

  def test_equal_those_of_the_exchanges_that_are_built(self, store):
    pool_type = selection.candidate_pool_type(SIZES, 3, ACTIVE)
    statistics_type = selection.batch_norm_statistics_type(SIZES, 3)
    measure = selection._build_measure(CNN, store, pool_type, 4).type_signature
    score = selection._build_score(
      CNN, store, pool_type, statistics_type, 4
    ).type_signature
    assert measure.result == selection.batch_moments_type(SIZES, 3)
    assert score.result == selection.candidate_scores_type(3)
    found = traffic.selection_traffic(SIZES, 3, ACTIVE)
    sent = messages.size_bytes(measure.result) + messages.size_bytes(score.result)
    assert found.upload_bytes == sent
    received = score.parameter[1], score.parameter[2]
    assert found.download_bytes == sum(map(messages.size_bytes, received))


def _random(generator, message):
  """Draws bytes of a message's type that no encoding can shorten."""
  if isinstance(message, tff.StructType):
    return [_random(generator, element) for element in message.children()]
  raw = generator.bytes(int(np.prod(message.shape)) * np.dtype(message.dtype).itemsize)
  return np.frombuffer(raw, message.dtype).reshape(message.shape)


def _tensors(message) -> int:
  if isinstance(message, tff.StructType):
    return sum(_tensors(element) for element in message.children())
  return 1


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("direction", ["up", "down", "down_mask_held"])
def test_bytes_from_types_are_those_that_tff_serialises(store, block, direction):
  events = _events()
  builder = rounds.RoundBuilder(
    CNN, store, training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1)),
    registry.get_strategy("fedtiny"), events, active_count=ACTIVE, seed=0,
  )  # fmt: skip
  event = next((e for e in events if e.block == block), None)
  number = 0 if event is None else event.round_index
  work = builder._client_work(
    rounds._Key(block, ACTIVE, ACTIVE)
  ).computation.type_signature
  computation = builder.computation(number)
  _, values, sent, instruction = work.parameter
  message, wanted = work.result, computation.upload_bytes
  if direction != "up":
    parts = [values] if direction == "down_mask_held" else [values, sent]
    message = tff.types.to_type([*parts, instruction])
    wanted = computation.download_bytes
    wanted -= computation.position_bytes if direction == "down_mask_held" else 0
  value = _random(np.random.default_rng(1), message)
  proto, _ = tff.framework.serialize_value(value, message)
  # Names, types and shapes come on top: a few dozen bytes a tensor, whatever its size.
  assert wanted <= proto.ByteSize() <= wanted + 64 * _tensors(message)
