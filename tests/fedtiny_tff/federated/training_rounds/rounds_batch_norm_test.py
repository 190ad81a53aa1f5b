"""Batch norm's statistics after a round are those of all examples together."""

import numpy as np
import pytest

from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.training_rounds import round_settings

pytestmark = pytest.mark.usefixtures("local_runtime")


class TestBatchNormAggregation:
  @pytest.fixture(scope="class")
  def run(self, tmp_path_factory):
    """Runs one full-batch round on given features; gives mean and variance.

    The computation reads the store's file when it runs, so the file can hold other
    features of the same number each time.
    """
    counts = (4, 16)
    path = tmp_path_factory.mktemp("norm") / "records"
    model_definition = support.normalized_linear_model()

    def clients(features):
      nothing = round_settings.nothing(2)
      return [
        support.Client(support.make_part(x, np.arange(len(x)) % 2), nothing)
        for x in features
      ]

    start = clients([np.zeros([n, 2]) for n in counts])
    config = round_settings.sgd(0.0, 1, 32)
    setting = round_settings.make_setting(path, model_definition, start, config, [], 3)

    def run_on(features, mean, variance):
      support.write_store(path, clients(features))
      weights = support.random_weights(model_definition)._replace(
        batch_norm_mean=np.full(2, mean, np.float32),
        batch_norm_variance=np.full(2, variance, np.float32),
      )
      mask = np.array([True, True, False, True])
      state, _ = setting.run(support.make_state(weights, mask), 0)
      return state.weights.batch_norm_mean, state.weights.batch_norm_variance

    return run_on

  def test_variance_between_clients_by_hand(self, run):
    # Channel 0: values -1, 1 here and 9, 11 there: within 1, means 0 and 10 with
    # shares 1/5 and 4/5. Channel 1 is constant: 3 here, -2 there.
    here = [[-1, 3], [1, 3]] * 2
    there = [[9, -2], [11, -2]] * 8
    mean, variance = run([here, there], 0.0, 1.0)
    np.testing.assert_allclose(mean, [8.0, -1.0], rtol=1e-6)
    np.testing.assert_allclose(variance, [1 + 16.0, 4.0], rtol=1e-6)

  def test_equals_moments_of_all_examples(self, run):
    generator = np.random.default_rng(11)
    features = [
      generator.normal([5.0, -3.0], [1.0, 0.2], (4, 2)).astype(np.float32),
      generator.normal([-2.0, -3.5], [0.5, 3.0], (16, 2)).astype(np.float32),
    ]
    mean, variance = run(features, 0.0, 1.0)
    together = np.concatenate(features).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, together.var(axis=0), rtol=1e-5)

  def test_large_mean_small_variance_by_hand(self, run):
    # In units of 1/128 about 30: -1, 1 here and 1, 3 there. Within 1; means 0 and 2
    # with shares 1/5 and 4/5, so 1.6 +- 0.8. All these numbers are exact in float32,
    # while the square of 30 would swallow them.
    unit = 1 / 128
    here = 30 + unit * np.array([[-1, 1], [1, -1]] * 2)
    there = 30 + unit * np.array([[1, 3], [3, 1]] * 8)
    mean, variance = run([here, there], 30.0, unit**2)
    np.testing.assert_allclose(mean, np.full(2, 30 + 1.6 * unit), rtol=1e-6)
    np.testing.assert_allclose(variance, np.full(2, 1.64 * unit**2), rtol=1e-5)

  def test_large_mean_small_variance_drawn(self, run):
    generator = np.random.default_rng(12)
    features = [
      generator.normal(m, 0.01, (n, 2)).astype(np.float32)
      for m, n in ((29.98, 4), (30.01, 16))
    ]
    mean, variance = run(features, 30.0, 1e-4)
    together = np.concatenate(features).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-6)
    # Keras itself has the clients' means and variances in float32 only.
    np.testing.assert_allclose(variance, together.var(axis=0), rtol=1e-3)
