"""Tests of rounds whose clients hold the mask already, so that positions stay home."""

import numpy as np
import pytest
import tensorflow_federated as tff

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.training_rounds import client_work, rounds
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import fedtiny
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

# 40 of 125 weights are active: 160 bytes of values, 16 of positions.
COUNTS = (16, 10, 8, 6)
POSITION_BYTES = 16
EVENTS = (
  schedules.AdjustmentEvent(6, 2, (3, 2)),
  schedules.AdjustmentEvent(12, 1, (4,)),
)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
  clients = support.image_clients((6, 5))
  return support.write_store(tmp_path_factory.mktemp("held") / "records", clients)


@pytest.fixture(scope="module")
def model_definition():
  return support.small_cnn()


@pytest.fixture(scope="module")
def make_builder(federation, model_definition):
  def make(all_clients_every_round: bool) -> rounds.RoundBuilder:
    config = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1, 0.9), 1, 4)
    return rounds.RoundBuilder(
      model_definition, federation[0], config, fedtiny.FedTiny(), EVENTS,
      active_count=40, seed=0, all_clients_every_round=all_clients_every_round,
    )  # fmt: skip

  return make


@pytest.fixture(scope="module")
def builder(make_builder):
  return make_builder(True)


@pytest.fixture(scope="module")
def state(model_definition):
  weights = support.random_weights(model_definition)
  return support.make_state(weights, support.random_mask(model_definition, COUNTS))


class TestMaskIsHeld:
  def test_from_the_round_after_it_was_sent_until_it_is_adjusted(self, builder):
    # Sent in rounds 0, 7 and 13: the first round, and those after an event.
    held = [number for number in range(20) if builder.mask_is_held(number)]
    assert held == [*range(1, 7), *range(8, 13), *range(14, 20)]

  def test_never_when_a_client_may_miss_a_round(self, make_builder):
    some = make_builder(False)
    assert not any(some.mask_is_held(number) for number in range(20))


class TestPositionsStay:
  def test_in_enough_rounds_without_adjustment(self, builder):
    # Rounds 1 to 5, and from 14 on; 8 to 11 are one too few for a computation.
    stay = [number for number in range(20) if builder.positions_stay(number)]
    assert stay == [*range(1, 6), *range(14, 20)]

  def test_decides_what_travels(self, builder, make_builder, state):
    for number in (0, 6, 7, 8, 13):
      sent = builder.computation(number, state.mask)
      assert sent.position_bytes == POSITION_BYTES
    assert builder.computation(1).position_bytes == POSITION_BYTES
    assert builder.computation(1, state.mask).position_bytes == 0
    some = make_builder(False)
    assert some.computation(1, state.mask).position_bytes == POSITION_BYTES


class TestHeldRound:
  def test_only_the_positions_are_saved(self, builder, state):
    sent, held = builder.computation(1), builder.computation(1, state.mask)
    assert held.download_bytes == sent.download_bytes - POSITION_BYTES
    assert held.upload_bytes == sent.upload_bytes
    assert held.next.type_signature == sent.next.type_signature

  def test_gives_the_same_bytes_as_with_positions(self, builder, federation, state):
    instruction = builder.instruction(1, 0.1)
    sent = builder.computation(1).run(state, federation[1], instruction)
    held = builder.computation(1, state.mask).run(state, federation[1], instruction)
    assert support.to_bytes(held) == support.to_bytes(sent)
    assert support.to_bytes(held[0].weights) != support.to_bytes(state.weights)

  def test_a_state_of_another_mask_is_refused(self, builder, federation, state):
    other = state._replace(mask=np.roll(state.mask, 1))
    computation = builder.computation(1, state.mask)
    with pytest.raises(Exception, match="clients hold another mask than the server"):
      computation.run(other, federation[1], builder.instruction(1, 0.1))

  def test_the_model_s_graph_is_built_once_for_all_masks(
    self, make_builder, state, monkeypatch
  ):
    built = []
    original = client_work.build_client_work

    def counting(*arguments, **named):
      built.append(arguments)
      return original(*arguments, **named)

    monkeypatch.setattr(client_work, "build_client_work", counting)
    fresh = make_builder(True)
    first = fresh.computation(1, state.mask)
    assert fresh.computation(1, state.mask) is first
    assert fresh.computation(14, np.roll(state.mask, 1)) is not first
    assert fresh.computation(0).position_bytes == POSITION_BYTES
    assert len(built) == 1


def test_positions_are_not_among_what_is_broadcast(builder, state):
  """Reads the types from the computations themselves."""
  values = messages.model_values_type(builder._sizes, 40).compact_representation()
  positions = messages.positions_type(builder._sizes, 40).compact_representation()
  held = builder.computation(1, state.mask).next.to_building_block()
  sent = builder.computation(1).next.to_building_block()
  assert values in _broadcast_types(held)
  assert positions not in _broadcast_types(held)
  assert {values, positions} <= _broadcast_types(sent)


def _broadcast_types(block) -> set[str]:
  found = set()

  def look(inner):
    if (
      isinstance(inner, tff.framework.Call)
      and isinstance(inner.function, tff.framework.Intrinsic)
      and inner.function.uri == "federated_broadcast"
    ):
      found.add(inner.argument.type_signature.member.compact_representation())
    return inner, False

  tff.framework.transform_postorder(block, look)
  return found
