"""What a few steps are timed on."""

import tracemalloc

from pipelines.comparisons import comparison_estimate
from pipelines.training import experiments
from tests.pipelines import support


def test_a_batch_that_no_client_fills_takes_no_memory():
  experiment = experiments.plan_experiment(support.make_config(batch_size=200_000))
  tracemalloc.start()
  try:
    rate = comparison_estimate.images_per_second(experiment)
    _, most_bytes = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert rate > 0
  # Its images of 64 values would be 51 MB, and a step is not all.
  assert most_bytes < 45e6


def test_examples_are_those_of_the_batches_there_are():
  experiment = experiments.plan_experiment(support.make_config(batch_size=200_000))
  mean = experiment.data.training_sizes.mean()
  config = experiment.config
  assert comparison_estimate.images_per_round(experiment) == (
    mean * config.local_epochs * (config.clients_per_round or config.num_clients)
  )
