"""Selections of which the server learns sums only, or private ones."""

import numpy as np
import pytest

from fedtiny_tff.federated.adaptive_selection import hidden_selection, selection
from fedtiny_tff.protection.aggregation_config import WEIGHTED_MEAN, Aggregation
from fedtiny_tff.protection.privacy import Privacy
from fedtiny_tff.protection.secure_config import BITWIDTH, MODULAR, SecureSums
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

MODEL = support.normalized_perceptron()
COUNTS = ((6, 6), (9, 3), (3, 9))


@pytest.fixture(scope="module", name="stored")
def fixture_stored(tmp_path_factory):
  """Six clients that hold four examples out, each of its own distribution."""
  generator = np.random.default_rng(31)
  clients = [
    support.Client(
      support.random_part(generator, 3, (2,), 2),
      support.random_part(generator, 4, (2,), 2, mean, 1.0),
    )
    for mean in (0, 1, -1, 0.5, -0.5, 0)
  ]
  return support.write_store(tmp_path_factory.mktemp("hidden") / "records", clients)


def _build(stored, aggregation):
  return selection.build_selection(
    MODEL, stored[0], candidates=3, active_count=12, batch_size=4,
    aggregation=aggregation,
  )  # fmt: skip


def _select(stored, aggregation, references=None):
  masks = np.stack(
    [support.random_mask(MODEL, counts, 9 + i) for i, counts in enumerate(COUNTS)]
  )
  pool = selection.make_pool(support.random_weights(MODEL, 8), masks)
  clients = stored[1] if references is None else references
  return _build(stored, aggregation)(pool, clients)


@pytest.fixture(scope="module", name="plain")
def fixture_plain(stored):
  return _select(stored, WEIGHTED_MEAN)


@pytest.mark.parametrize("mode", [BITWIDTH, MODULAR])
def test_secure_sums_select_by_the_same_figures(stored, plain, mode):
  hidden = _select(stored, Aggregation(secure=SecureSums(mode, 32, 6, 4)))
  assert hidden.reports == 6
  for one, two in zip(hidden.statistics, plain.statistics, strict=True):
    np.testing.assert_allclose(one, two, atol=1e-5)
  for one, two in zip(hidden.metrics, plain.metrics, strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-4)


def test_private_scores_are_those_above_the_mean(stored, plain, monkeypatch):
  monkeypatch.setattr(hidden_selection, "_MOMENT_CLIP", 100.0)
  privacy = Privacy(1e-6, 6.0, 0)
  hidden = _select(stored, Aggregation(privacy=privacy))
  np.testing.assert_allclose(hidden.statistics.mean, plain.statistics.mean, atol=1e-3)
  least = 0.25 * support.random_weights(MODEL, 8).batch_norm_variance
  variance = np.maximum(plain.statistics.variance, least)
  np.testing.assert_allclose(hidden.statistics.variance, variance, atol=1e-3)
  losses = np.asarray(plain.metrics.loss_sum) / np.asarray(plain.metrics.examples)
  found = np.asarray(hidden.metrics.loss_sum)
  assert np.argmin(found) == np.argmin(losses)
  np.testing.assert_allclose(found.sum(), 0.0, atol=1e-5)
  assert 0.01 < np.linalg.norm(found) <= 0.5


def test_no_client_moves_private_scores_farther_than_the_clip_norm(stored):
  """Noise is the same with and without a client, what is left of scores is that one."""
  aggregation = Aggregation(privacy=Privacy(1.0, 6.0, 0))
  every = _select(stored, aggregation)
  # The statistics differ too, and with them every score: only a bound of all holds.
  without = _select(stored, aggregation, stored[1][1:])
  moved = np.asarray(every.metrics.loss_sum) - np.asarray(without.metrics.loss_sum)
  assert 0.0 < np.linalg.norm(moved) <= 0.5 * (6 + 5) / 6
  spread = np.asarray(every.statistics.variance)
  assert (spread >= 0.2499 * support.random_weights(MODEL, 8).batch_norm_variance).all()


def test_nothing_is_added_up_in_the_open(stored):
  secure = SecureSums(BITWIDTH, 32, 6, 4)
  for privacy in (None, Privacy(1.0, 6.0, 0)):
    selected = _build(stored, Aggregation(privacy=privacy, secure=secure))
    assert support.open_aggregations(selected) == set()
  assert "federated_sum" in support.open_aggregations(_build(stored, WEIGHTED_MEAN))
