"""Tests of adaptive BN selection against a direct computation."""

import numpy as np
import pytest

from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure.definition import ModelDefinition
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.training_rounds.dense_reference import PlainModel

pytestmark = pytest.mark.usefixtures("local_runtime")

BATCH_SIZE = 4
TYPE = (
  "(<pool=<active_values=float32[{0},{1}],positions=uint8[{0},{2}],"
  "dense=float32[{3}],batch_norm_mean=float32[{4}],batch_norm_variance=float32[{4}]>"
  "@SERVER,clients={{<client=int64,first_record=int64,training_examples=int64,"
  "development_examples=int64>}}@CLIENTS> -> <metrics=<loss_sum=float32[{0}],"
  "correct=float32[{0}],examples=float32[{0}]>,statistics=<mean=float32[{0},{4}],"
  "variance=float32[{0},{4}]>,reports=float32>@SERVER)"
)
# Held-out examples per client, in the convolutional and in the shifted setting.
HELD_OUT = (5, 9, 8, 3)
SHIFTED_HELD_OUT = (9, 6, 12)
# Three ways to keep 40 of small_cnn's 125 weights.
POOL_COUNTS = ((16, 10, 8, 6), (10, 16, 6, 8), (24, 4, 4, 8))


def mini_batches(count):
  """Bounds of the mini-batches; a last one of a single example joins the others."""
  starts = list(range(0, count, BATCH_SIZE))
  if len(starts) > 1 and count - starts[-1] == 1:
    starts.pop()
  return list(zip(starts, [*starts[1:], count], strict=True))


def masked(weights: ModelWeights, mask: np.ndarray) -> ModelWeights:
  return support.make_state(weights, mask).weights


def moments_of_all(
  model_definition: ModelDefinition, weights: ModelWeights, parts
) -> tuple[np.ndarray, np.ndarray]:
  """Runs the plain model batch by batch; moments of all that its norms received."""
  plain = PlainModel(model_definition)
  plain.set(weights)
  seen = [
    plain.norm_inputs(part.features[start:stop])
    for part in parts
    for start, stop in mini_batches(len(part.labels))
  ]
  layers = [
    np.concatenate(batches).astype(np.float64) for batches in zip(*seen, strict=True)
  ]
  assert len(layers) == len(plain.norms)
  mean = np.concatenate([layer.mean(axis=0) for layer in layers])
  variance = np.concatenate([layer.var(axis=0) for layer in layers])
  return mean, variance


def scores_of_all(
  model_definition: ModelDefinition, weights: ModelWeights, statistics, parts
) -> tuple[float, int, int]:
  """Evaluates the plain model on all held-out parts under given statistics."""
  plain = PlainModel(model_definition)
  mean, variance = (np.asarray(s, np.float32) for s in statistics)
  plain.set(weights._replace(batch_norm_mean=mean, batch_norm_variance=variance))
  return plain.metrics(support.concatenate(parts))


def check_scores(found: selection.SelectionResult, wanted) -> None:
  losses, hits, counts = zip(*wanted, strict=True)
  np.testing.assert_allclose(found.metrics.loss_sum, losses, rtol=1e-5)
  np.testing.assert_array_equal(found.metrics.correct, hits)
  np.testing.assert_array_equal(found.metrics.examples, counts)


def build(model_definition, store, candidates, active_count, adaptive=True):
  return selection.build_selection(
    model_definition, store, candidates=candidates, active_count=active_count,
    batch_size=BATCH_SIZE, adaptive=adaptive,
  )  # fmt: skip


@pytest.fixture(scope="module")
def clients():
  """Held-out parts of different distributions."""
  generator = np.random.default_rng(31)
  return [
    support.Client(
      support.random_part(generator, 3, (4, 4, 1), 3),
      support.random_part(generator, count, (4, 4, 1), 3, mean, deviation),
    )
    for count, mean, deviation in zip(
      HELD_OUT, (0, 3, -2, 1), (1, 0.5, 2, 1), strict=True
    )
  ]


@pytest.fixture(scope="module")
def parts(clients):
  return [client.development for client in clients]


@pytest.fixture(scope="module")
def stored(tmp_path_factory, clients):
  return support.write_store(tmp_path_factory.mktemp("selection") / "records", clients)


CNN = support.small_cnn()


@pytest.fixture(scope="module")
def weights():
  return support.random_weights(CNN, 8)


@pytest.fixture(scope="module")
def masks():
  return np.stack(
    [support.random_mask(CNN, counts, 9 + i) for i, counts in enumerate(POOL_COUNTS)]
  )


@pytest.fixture(scope="module")
def select(stored):
  return build(CNN, stored[0], 3, 40)


def test_scores_under_nobodys_moments_do_not_count(select, stored, weights, masks):
  # Squares of the first batch norm's inputs are beyond float32, the scores are not.
  prunable = np.array(weights.prunable)
  prunable[: CNN.spec.layers[0].size] *= 1e22
  pool = selection.make_pool(weights._replace(prunable=prunable), masks)
  found = select(pool, stored[1])
  assert np.isfinite(found.metrics.loss_sum).all()
  np.testing.assert_array_equal(found.statistics.variance, 0)
  assert found.reports == 0


@pytest.fixture(scope="module")
def result(select, stored, weights, masks):
  return select(selection.make_pool(weights, masks), stored[1])


class TestMakePool:
  def test_rows_by_hand(self):
    weights = ModelWeights(
      np.arange(1, 10, dtype=np.float32),
      np.array([0.5], np.float32),
      np.zeros(2, np.float32),
      np.ones(2, np.float32),
    )
    masks = np.isin(np.arange(9), [0, 8]), np.isin(np.arange(9), [3, 4])
    pool = selection.make_pool(weights, np.stack(masks))
    np.testing.assert_array_equal(pool.active_values, [[1, 9], [4, 5]])
    np.testing.assert_array_equal(pool.positions, [[0x80, 0x80], [0x18, 0x00]])
    assert pool[2:] == weights[1:]


class TestTypes:
  def test_adaptive(self, select):
    found = select.type_signature.compact_representation()
    assert found == TYPE.format(3, 40, 16, 41, 10)


class TestAdaptiveSelection:
  def test_statistics_of_every_layer_are_the_moments_of_all_inputs(
    self, result, weights, masks, parts
  ):
    for candidate, mask in enumerate(masks):
      mean, variance = moments_of_all(CNN, masked(weights, mask), parts)
      np.testing.assert_allclose(
        result.statistics.mean[candidate], mean, rtol=1e-5, atol=1e-5
      )
      np.testing.assert_allclose(
        result.statistics.variance[candidate], variance, rtol=1e-5, atol=1e-7
      )

  def test_statistics_are_not_the_pretrained_ones(self, result, weights):
    difference = np.abs(result.statistics.mean - weights.batch_norm_mean)
    assert np.all(difference.max(axis=1) > 0.1)

  def test_variance_between_clients_is_kept(self, result, parts, weights, masks):
    # The plain average of local variances would be far too small here.
    local = [moments_of_all(CNN, masked(weights, masks[0]), [p])[1] for p in parts]
    counts = [len(part.labels) for part in parts]
    within = np.average(local, axis=0, weights=counts)
    assert np.any(result.statistics.variance[0] > 2 * within)

  def test_scores_equal_a_direct_evaluation(self, result, weights, masks, parts):
    candidates = [masked(weights, mask) for mask in masks]
    wanted = [
      scores_of_all(CNN, candidate, moments_of_all(CNN, candidate, parts), parts)
      for candidate in candidates
    ]
    check_scores(result, wanted)

  def test_least_loss_wins_whatever_the_order_of_clients(
    self, select, result, stored, weights, masks
  ):
    pool = selection.make_pool(weights, masks)
    best = int(np.argmin(result.metrics.loss_sum))
    for order in ([3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]):
      found = select(pool, [stored[1][i] for i in order])
      assert int(np.argmin(found.metrics.loss_sum)) == best
      for ours, wanted in zip(
        support.leaves(found), support.leaves(result), strict=True
      ):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-6)

  def test_least_loss_follows_its_candidate(
    self, select, result, stored, weights, masks
  ):
    best = int(np.argmin(result.metrics.loss_sum))
    for order in ([1, 2, 0], [2, 1, 0]):
      found = select(selection.make_pool(weights, masks[order]), stored[1])
      assert order[int(np.argmin(found.metrics.loss_sum))] == best

  def test_the_same_selection_gives_the_same_bytes(
    self, select, result, stored, weights, masks
  ):
    again = select(selection.make_pool(weights, masks), stored[1])
    assert support.to_bytes(again) == support.to_bytes(result)

  def test_only_held_out_records_of_participants_matter(
    self, select, stored, weights, masks
  ):
    store, references = stored
    pool = selection.make_pool(weights, masks)
    chosen, absent = references[:3], references[3]
    wanted = support.to_bytes(select(pool, chosen))
    count = absent.training_examples + absent.development_examples
    spans = [(r.first_record, r.training_examples) for r in chosen]
    for first, length in [*spans, (absent.first_record, count)]:
      with support.overwritten(store, first, length):
        assert support.to_bytes(select(pool, chosen)) == wanted

  def test_a_client_that_holds_nothing_out_adds_nothing(
    self, select, result, stored, weights, masks
  ):
    empty = stored[1][0]._replace(development_examples=np.int64(0))
    pool = selection.make_pool(weights, masks)
    found = select(pool, [*stored[1], empty])
    assert support.to_bytes(found) == support.to_bytes(result)


class TestCandidatesAreIndependent:
  @pytest.fixture(scope="class")
  def select_one(self, stored):
    return build(CNN, stored[0], 1, 40)

  @pytest.mark.parametrize("candidate", [0, 1, 2])
  def test_alone_as_in_the_pool(
    self, select_one, result, stored, weights, masks, candidate
  ):
    # Masking in place would intersect later candidates with earlier ones.
    pool = selection.make_pool(weights, masks[candidate : candidate + 1])
    alone = select_one(pool, stored[1])
    for ours, pooled in zip(
      support.leaves(alone[:2]), support.leaves(result[:2]), strict=True
    ):
      np.testing.assert_allclose(ours[0], pooled[candidate], rtol=1e-6, atol=1e-6)

  def test_equal_candidates_have_equal_figures(self, select, stored, weights, masks):
    pool = selection.make_pool(weights, masks[[1, 0, 1]])
    for leaf in support.leaves(select(pool, stored[1])[:2]):
      np.testing.assert_array_equal(leaf[0], leaf[2])


class TestShiftedInputs:
  """A batch norm on inputs of mean 30 and standard deviation 0.01."""

  @pytest.fixture(scope="class")
  def shifted(self, tmp_path_factory):
    generator = np.random.default_rng(41)
    nothing = support.make_part(np.zeros([0, 2]), [])
    clients = [
      support.Client(nothing, support.random_part(generator, n, (2,), 2, mean, 0.01))
      for n, mean in zip(SHIFTED_HELD_OUT, (30.0, 30.02, 29.99), strict=True)
    ]
    path = tmp_path_factory.mktemp("shifted") / "records"
    store, references = support.write_store(path, clients)
    model_definition = support.normalized_perceptron()
    select = build(model_definition, store, 2, 9)
    return model_definition, select, references, [c.development for c in clients]

  @pytest.mark.parametrize("pretrained_mean", [30.0, 29.0, 0.0])
  def test_no_cancellation_in_any_layer(self, shifted, pretrained_mean):
    model_definition, select, references, parts = shifted
    weights = support.random_weights(model_definition, 6)
    weights.batch_norm_mean[:2] = pretrained_mean
    masks = np.stack(
      [support.random_mask(model_definition, counts, 6) for counts in ((5, 4), (3, 6))]
    )
    found = select(selection.make_pool(weights, masks), references).statistics
    # The first norm's inputs are the data themselves.
    together = support.concatenate(parts).features.astype(np.float64)
    for candidate, mask in enumerate(masks):
      np.testing.assert_allclose(
        found.mean[candidate, :2], together.mean(axis=0), rtol=1e-6
      )
      np.testing.assert_allclose(
        found.variance[candidate, :2], together.var(axis=0), rtol=1e-5
      )
      mean, variance = moments_of_all(model_definition, masked(weights, mask), parts)
      np.testing.assert_allclose(found.mean[candidate], mean, rtol=1e-5, atol=1e-5)
      np.testing.assert_allclose(found.variance[candidate], variance, rtol=1e-5)


class TestVanillaSelection:
  def test_scores_under_the_pretrained_statistics(self, stored, weights, masks, parts):
    select = build(CNN, stored[0], 3, 40, adaptive=False)
    found = select.type_signature.compact_representation()
    assert found == TYPE.format(3, 40, 16, 41, 10)
    result = select(selection.make_pool(weights, masks), stored[1])
    pretrained = (weights.batch_norm_mean, weights.batch_norm_variance)
    np.testing.assert_array_equal(result.statistics.mean, [pretrained[0]] * 3)
    np.testing.assert_array_equal(result.statistics.variance, [pretrained[1]] * 3)
    wanted = [
      scores_of_all(CNN, masked(weights, mask), pretrained, parts) for mask in masks
    ]
    check_scores(result, wanted)


class TestModelWithoutBatchNorm:
  def test_scores_the_candidates_as_they_are(self, tmp_path):
    generator = np.random.default_rng(51)
    nothing = support.make_part(np.zeros([0, 3]), [])
    clients = [
      support.Client(nothing, support.random_part(generator, n, (3,), 2))
      for n in (4, 7)
    ]
    store, references = support.write_store(tmp_path / "records", clients)
    model_definition = support.perceptron()
    select = build(model_definition, store, 2, 12)
    found = select.type_signature.compact_representation()
    assert found == TYPE.format(2, 12, 3, 6, 0)
    weights = support.random_weights(model_definition, 2)
    masks = np.stack(
      [support.random_mask(model_definition, c, 2) for c in ((7, 5), (4, 8))]
    )
    result = select(selection.make_pool(weights, masks), references)
    assert result.statistics.mean.shape == (2, 0)
    nothing_normalised = (np.zeros(0), np.zeros(0))
    parts = [client.development for client in clients]
    wanted = [
      scores_of_all(model_definition, masked(weights, mask), nothing_normalised, parts)
      for mask in masks
    ]
    check_scores(result, wanted)
