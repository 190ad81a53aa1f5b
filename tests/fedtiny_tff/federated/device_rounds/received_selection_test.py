"""A selection of reports that arrive ends as the simulated one."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated.adaptive_selection import selection
from fedtiny_tff.federated.device_rounds import received_selection
from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models import batch_statistics, tfmot_masking
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

COUNTS = ((16, 10, 8, 6), (10, 16, 6, 8))
HELD_OUT = (5, 3, 4)
BATCH_SIZE = 4


@pytest.fixture(scope="module")
def parts():
  generator = np.random.default_rng(5)
  return [support.random_part(generator, n, (4, 4, 1), 3) for n in HELD_OUT]


@pytest.fixture(scope="module")
def found(parts, tmp_path_factory):
  """Returns the simulated result, and that of what each client computes by itself."""
  model = support.small_cnn()
  weights = support.random_weights(model, 8)
  masks = np.stack([support.random_mask(model, c, i) for i, c in enumerate(COUNTS)])
  clients = [support.Client(part, part) for part in parts]
  path = tmp_path_factory.mktemp("received") / "records"
  store, references = support.write_store(path, clients)
  pool = selection.make_pool(weights, masks)
  simulated = selection.build_selection(
    model, store, candidates=2, active_count=40, batch_size=BATCH_SIZE
  )(pool, references)
  server = received_selection.build_received_selection(
    tfmot_masking.vector_sizes(model), 2, 40
  )

  def reports(compute):
    return [
      tf.nest.map_structure(
        lambda *each: np.stack(each), *(compute(part, i) for i in range(2))
      )
      for part in parts
    ]

  def masked(number):
    start = support.make_state(weights, masks[number])
    given = tfmot_masking.ModelWeights(*map(tf.constant, start.weights))
    return given, tf.constant(masks[number])

  def measure(part, number):
    probe = batch_statistics.MomentsProbe(model)
    return probe.measure(*masked(number), tf.constant(part.features), BATCH_SIZE)

  statistics, measured = server.pool_moments(pool, reports(measure), references)

  def score(part, number):
    given, mask = masked(number)
    adapted = given._replace(
      batch_norm_mean=tf.constant(statistics.mean[number]),
      batch_norm_variance=tf.constant(statistics.variance[number]),
    )
    labels = tf.constant(part.labels, tf.int64)
    evaluator = training.Evaluator(
      model, lambda rows: (tf.gather(part.features, rows), tf.gather(labels, rows)), 4
    )
    return evaluator.evaluate(adapted, mask, tf.range(len(part.labels)))

  scores, scored = server.add_scores(reports(score), references)
  return simulated, statistics, scores, (measured, scored)


def test_statistics(found):
  simulated, statistics, _, reports = found
  assert reports == (3.0, 3.0)
  for name in ("mean", "variance"):
    np.testing.assert_allclose(
      getattr(statistics, name),
      getattr(simulated.statistics, name),
      rtol=1e-5,
      atol=1e-6,
    )


def test_scores(found):
  simulated, _, scores, _ = found
  np.testing.assert_allclose(scores.loss_sum, simulated.metrics.loss_sum, rtol=1e-5)
  np.testing.assert_array_equal(scores.correct, simulated.metrics.correct)
  np.testing.assert_array_equal(scores.examples, simulated.metrics.examples)
