"""The server does with updates that arrive what it does with those it simulates."""

import functools

import numpy as np
import pytest

from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.device_rounds import received_work
from fedtiny_tff.federated.training_rounds import client_work, rounds
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, fedtiny
from fedtiny_tff.strategies.pruning_config import PruningConfig
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

COUNTS = (16, 10, 8, 6)
EXAMPLES = (6, 9, 5)
CONFIG = training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.05, 0.9), 2, 4)
PLAN = PruningConfig(
  target_density=0.32, rounds=10, adjust_every_rounds=1, adjust_until_round=8
)
# An ordinary round, and one that adjusts a block.
ROUNDS = (0, 2)


class Federation:
  """Three clients, the simulated rounds, and those of received updates."""

  def __init__(self, path):
    generator = np.random.default_rng(3)
    self.clients = [
      support.Client(
        support.random_part(generator, n, (4, 4, 1), 3),
        support.random_part(generator, 2, (4, 4, 1), 3),
      )
      for n in EXAMPLES
    ]
    self.definition = support.small_cnn()
    self.store, self.references = support.write_store(path, self.clients)
    self.spec = self.definition.spec
    self.start = support.make_state(
      support.random_weights(self.definition),
      support.random_mask(self.definition, COUNTS),
    )
    self.simulated = self._builder(client_work.build_client_work)
    self.received = self._builder(received_work.build_received_work)

  def _builder(self, build_work) -> rounds.RoundBuilder:
    strategy = fedtiny.FedTiny()
    return rounds.RoundBuilder(
      self.definition,
      self.store,
      CONFIG,
      strategy,
      strategy.plan_events(self.spec, COUNTS, PLAN),
      active_count=sum(COUNTS),
      seed=0,
      build_work=build_work,
    )

  def state(self, number: int) -> states.ServerState:
    return self.start._replace(round_index=np.int32(number))

  def instruction(self, number: int) -> messages.RoundInstruction:
    return self.simulated.instruction(number, 0.05)

  @functools.cache  # noqa: B019 - lives as long as the tests.
  def updates(self, number: int) -> tuple[received_work.Received, ...]:
    """Returns what the clients of a round send, each computed by itself."""
    builder = self.simulated
    event = builder.event(number)
    adjustment = None
    if event is not None:
      capacities = schedules.capacities(builder.events, event.block)
      adjustment = fedtiny.FedTiny().adjustment(
        base.AdjustmentPlan(self.spec, event.block, capacities, 0, sum(COUNTS))
      )
    sizes = tfmot_masking.vector_sizes(self.definition)
    computation = client_work.build_client_work(
      self.definition, self.store, CONFIG, adjustment, 0,
      (
        messages.model_values_type(sizes, sum(COUNTS)),
        messages.positions_type(sizes, sum(COUNTS)),
        messages.instruction_type(len(self.instruction(number).counts)),
      ),
    )  # fmt: skip
    sparse = states.to_sparse(self.state(number))
    return tuple(
      received_work.Received(
        reference,
        computation(
          reference,
          messages.without_positions(sparse.model),
          sparse.model.positions,
          self.instruction(number),
        ).update,
      )
      for reference in self.references
    )

  def run_received(self, number: int, updates):
    return self.received.computation(number).run(
      self.state(number), updates, self.instruction(number)
    )


@pytest.fixture(scope="module")
def federation(tmp_path_factory) -> Federation:
  return Federation(tmp_path_factory.mktemp("received") / "records")


@pytest.mark.parametrize("number", ROUNDS)
def test_a_round_ends_as_the_simulated_one(federation, number):
  wanted, wanted_sums = federation.simulated.computation(number).run(
    federation.state(number), federation.references, federation.instruction(number)
  )
  found, sums = federation.run_received(number, federation.updates(number))
  assert support.to_bytes(found) == support.to_bytes(wanted)
  assert sums == wanted_sums
  assert (found.mask != federation.start.mask).any() == (number > 0)


@pytest.mark.parametrize("number", ROUNDS)
def test_one_that_does_not_count_is_as_if_it_had_not_arrived(federation, number):
  first, *others = federation.updates(number)
  dense = np.full_like(first.update.model.dense, np.nan)
  model = first.update.model._replace(dense=dense)
  broken = first._replace(update=first.update._replace(model=model))
  found, sums = federation.run_received(number, [broken, *others])
  wanted, _ = federation.run_received(number, others)
  assert (sums.accepted, sums.not_finite) == (2, 1)
  for left, right in zip(support.leaves(found), support.leaves(wanted), strict=True):
    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


def test_positions_outside_the_block_do_not_count(federation):
  first, *others = federation.updates(2)
  statistics = first.update.statistics
  outside = statistics._replace(indices=np.full_like(statistics.indices, 10**6))
  broken = first._replace(update=first.update._replace(statistics=outside))
  _, sums = federation.run_received(2, [broken, *others])
  assert (sums.accepted, sums.wrong_count) == (2, 1)


def test_type(federation):
  computation = federation.received.computation(0).next
  arrives = computation.type_signature.parameter.clients
  assert arrives.compact_representation().startswith(
    "{<reference=<client=int64,first_record=int64,training_examples=int64,"
    "development_examples=int64>,update=<model=<active_values=float32[40],"
  )
