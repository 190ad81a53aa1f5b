"""Tests of the federated evaluation against a direct one."""

import numpy as np
import pytest

from fedtiny_tff.federated import evaluation, states
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.training_rounds.dense_reference import PlainModel

pytestmark = pytest.mark.usefixtures("local_runtime")

COUNTS = (16, 10, 8, 6)
MODEL = support.small_cnn()


@pytest.fixture(scope="module")
def clients():
  generator = np.random.default_rng(21)
  return [
    support.Client(
      support.random_part(generator, training, (4, 4, 1), 3),
      support.random_part(generator, held_out, (4, 4, 1), 3, mean, deviation),
    )
    for training, held_out, mean, deviation in [
      (3, 5, 0, 1),
      (2, 8, 2, 3),
      (4, 1, -1, 1),
    ]
  ]


@pytest.fixture(scope="module")
def stored(tmp_path_factory, clients):
  return support.write_store(tmp_path_factory.mktemp("evaluation") / "records", clients)


@pytest.fixture(scope="module")
def computation(stored):
  return evaluation.build_evaluation(MODEL, stored[0], active_count=40, batch_size=4)


@pytest.fixture(scope="module")
def evaluate(computation):
  return lambda state, references: computation(states.to_sparse(state), references)


@pytest.fixture(scope="module")
def state():
  return support.make_state(
    support.random_weights(MODEL, 5), support.random_mask(MODEL, COUNTS, 5)
  )


def direct(state, parts):
  """Sums of the plain model over the concatenation, in inference mode."""
  plain = PlainModel(MODEL)
  plain.set(state.weights)
  return plain.metrics(support.concatenate(parts))


def check(found, wanted):
  loss_sum, correct, examples = wanted
  assert found.loss_sum == pytest.approx(loss_sum, rel=1e-5)
  assert (found.correct, found.examples) == (correct, examples)


class TestBuildEvaluation:
  def test_type(self, computation):
    assert computation.type_signature.compact_representation() == (
      "(<state=<model=<active_values=float32[40],positions=uint8[16],"
      "dense=float32[41],batch_norm_mean=float32[10],batch_norm_variance=float32[10]>,"
      "round_index=int32,memory=<>,aggregation=<>>@SERVER,clients={<client=int64,first_record=int64,"
      "training_examples=int64,development_examples=int64>}@CLIENTS> -> "
      "<loss_sum=float32,correct=float32,examples=float32>@SERVER)"
    )

  def test_equals_direct_evaluation_of_all_held_out_parts(
    self, evaluate, stored, clients, state
  ):
    found = evaluate(state, stored[1])
    wanted = direct(state, [client.development for client in clients])
    assert wanted[2] == 14
    assert 0 < wanted[1] < 14
    check(found, wanted)

  @pytest.mark.parametrize("chosen", [(0,), (1,), (2,), (2, 0), (1, 1)])
  def test_equals_direct_evaluation_of_some(
    self, evaluate, stored, clients, state, chosen
  ):
    found = evaluate(state, [stored[1][i] for i in chosen])
    check(found, direct(state, [clients[i].development for i in chosen]))

  def test_order_of_clients_does_not_matter(self, evaluate, stored, state):
    first = evaluate(state, stored[1])
    second = evaluate(state, stored[1][::-1])
    assert second.loss_sum == pytest.approx(float(first.loss_sum), rel=1e-6)
    assert second[1:] == first[1:]

  def test_uses_the_state_s_batch_norm_statistics(
    self, evaluate, stored, clients, state
  ):
    shifted = state._replace(
      weights=state.weights._replace(
        batch_norm_mean=state.weights.batch_norm_mean + np.float32(0.5)
      )
    )
    found = evaluate(shifted, stored[1])
    check(found, direct(shifted, [client.development for client in clients]))
    assert found.loss_sum != evaluate(state, stored[1]).loss_sum

  def test_weights_outside_the_mask_do_not_count(self, evaluate, stored, state):
    spoilt = np.where(state.mask, state.weights.prunable, np.float32(9.0))
    unmasked = state._replace(weights=state.weights._replace(prunable=spoilt))
    assert support.to_bytes(evaluate(unmasked, stored[1])) == support.to_bytes(
      evaluate(state, stored[1])
    )

  def test_only_a_client_s_held_out_part_matters(self, evaluate, stored, state):
    store, references = stored
    wanted = support.to_bytes(evaluate(state, references[:2]))
    absent = references[2]
    count = absent.training_examples + absent.development_examples
    for first, length in [
      (references[0].first_record, references[0].training_examples),
      (references[1].first_record, references[1].training_examples),
      (absent.first_record, count),
    ]:
      with support.overwritten(store, first, length):
        assert support.to_bytes(evaluate(state, references[:2])) == wanted
    first = references[1].first_record + references[1].training_examples
    with support.overwritten(store, first, 1):
      assert support.to_bytes(evaluate(state, references[:2])) != wanted

  def test_a_client_that_holds_nothing_out_adds_nothing(self, evaluate, stored, state):
    empty = stored[1][1]._replace(development_examples=np.int64(0))
    found = evaluate(state, [stored[1][0], empty])
    assert found == evaluate(state, [stored[1][0]])


class TestReadDevelopment:
  def test_reads_the_records_after_the_training_ones(self, stored, clients):
    store, references = stored
    for client, reference in zip(clients, references, strict=True):
      records = evaluation.read_development(store, reference)
      features, labels = store.decode(records)
      np.testing.assert_array_equal(features, client.development.features)
      np.testing.assert_array_equal(labels, client.development.labels)
