"""Steps of a round; sums and names of what is paid."""

import pytest

from fedtiny_tff.costs import device_cost


@pytest.mark.parametrize(
  ("samples", "epochs", "batch_size", "steps"),
  [(5000, 5, 64, 395), (64, 2, 64, 2), (65, 2, 64, 4), (1, 1, 64, 1), (7, 3, 1, 21)],
)
def test_every_epoch_ends_with_its_own_batch(samples, epochs, batch_size, steps):
  assert device_cost.Workload(samples, epochs, batch_size).steps == steps


@pytest.mark.parametrize(
  ("samples", "epochs", "batch_size", "most", "examples"),
  # 64 + 36 + 64 + 36; four whole batches; 7 + 7 + 3; without a limit.
  [
    (100, 5, 64, 4, 200), (256, 5, 64, 4, 256), (7, 3, 3, 7, 17), (100, 5, 64, 0, 500),
    (100, 5, 64, 99, 500), (100, 5, 64, 1, 64),
  ],
)  # fmt: skip
def test_a_limit_counts_steps_whatever_is_in_them(
  samples, epochs, batch_size, most, examples
):
  load = device_cost.Workload(samples, epochs, batch_size, most)
  assert load.examples == examples


@pytest.mark.parametrize(
  ("samples", "batch_size", "largest"), [(5000, 64, 64), (64, 64, 64), (7, 64, 7)]
)
def test_no_batch_has_more_examples_than_there_are(samples, batch_size, largest):
  assert device_cost.Workload(samples, 2, batch_size).largest_batch == largest


def test_memory_is_the_sum_of_its_parts():
  assert device_cost.MemoryCost(1, 20, 300, 4000).total_bytes == 4321
  assert device_cost.MemoryCost(5, 6).total_bytes == 11


def test_figures_name_everything():
  memory = device_cost.MemoryCost(1, 20, 300, 4000)
  paid = device_cost.RoundCost(94, 1161, 2322.0, 1e6, 7e3, memory, 56)
  assert paid.figures() == {
    "parameters": 94,
    "macs": 1161,
    "forward_flops": 2322.0,
    "training_flops_per_round": 1e6,
    "adjust_round_flops": 7e3,
    "memory_bytes": 4321,
    "parameter_bytes": 1,
    "gradient_bytes": 20,
    "index_bytes": 300,
    "buffer_bytes": 4000,
    "activation_bytes": 56,
  }
