"""Statistics equal those of NumPy, and the sample is fair and repeatable."""

import collections
import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedtiny_tff import seeds
from fedtiny_tff.data import examples
from fedtiny_tff.data.examples import TEST, TRAIN
from fedtiny_tff.errors import InputError
from pipelines.apps.progress import Progress
from pipelines.datasets import data_observation
from tests.fedtiny_tff.support import dataset_info, quick
from tests.pipelines.datasets import inspected_data


def _statistics(info, *batches):
  builder = data_observation.StatisticsBuilder(info)
  for batch in batches:
    builder.add(np.array(batch, info.feature_type))
  return builder.result()


@quick
@hypothesis.given(
  st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6),
    min_size=1,
    max_size=12,
  ),
  st.integers(1, 5),
  st.integers(1, 20),
)
def test_statistics_are_those_of_numpy(rows, batch, chunk_values):
  info = dataset_info((3, 2), "float32")
  values = np.array(rows, np.float32).reshape(-1, 3, 2)
  whole = data_observation._CHUNK_VALUES
  data_observation._CHUNK_VALUES = chunk_values
  try:
    batches = [values[first : first + batch] for first in range(0, len(values), batch)]
    found = _statistics(info, *batches)
  finally:
    data_observation._CHUNK_VALUES = whole
  exact = values.astype(np.float64)
  assert found.examples == len(values)
  np.testing.assert_array_equal(found.minimum, values.min(axis=(0, 1)))
  np.testing.assert_array_equal(found.maximum, values.max(axis=(0, 1)))
  np.testing.assert_allclose(found.mean, exact.mean(axis=(0, 1)), atol=1e-6)
  np.testing.assert_allclose(
    found.deviation, exact.std(axis=(0, 1)), rtol=1e-9, atol=1e-6
  )
  assert found.whole_mean == pytest.approx(exact.mean(), abs=1e-6)
  assert found.whole_deviation == pytest.approx(exact.std(), rel=1e-9, abs=1e-6)
  assert found.beyond_range == found.not_finite == 0


def test_constant_examples():
  info = dataset_info((3,))
  assert _statistics(info, [[1, 1, 1], [1, 1, 2]], [[0, 0, 0]]).constant_examples == 2
  # A single value is not throughout anything.
  assert _statistics(dataset_info((1,)), [[1], [2]]).constant_examples == 0


def test_values_beyond_what_the_type_suggests():
  # Scaled by 1/8, 9 is more than 1.
  found = _statistics(inspected_data.INFO, [[8, 8], [9, 0], [9, 9]], [[1, 1]])
  assert found.beyond_range == 2
  floats = dataset_info((2,), "float32")
  found = _statistics(floats, [[1e6, -1e6], [-2e6, 0], [1, 1.5e6]])
  assert found.beyond_range == 2


def test_every_value_of_a_byte_is_within_its_own_scale():
  scale = dataclasses.replace(inspected_data.INFO.preprocessing, scale=1 / 255)
  info = dataclasses.replace(inspected_data.INFO, preprocessing=scale)
  assert _statistics(info, [[255, 0]]).beyond_range == 0


def test_what_is_not_finite_counts_and_enters_nothing_else():
  info = dataset_info((2,), "float32")
  found = _statistics(info, [[1, 2], [np.nan, 5]], [[np.inf, np.inf]])
  assert (found.examples, found.not_finite) == (3, 2)
  assert found.maximum.tolist() == [1.0, 2.0]
  assert (found.constant_examples, found.beyond_range) == (0, 0)
  only = _statistics(info, [[np.nan, 1]])
  assert only.whole_mean is None
  assert len(only.minimum) == 0


def _sample(labels, batch, seed=0, classes=2):
  """Samples examples that hold their own number."""
  sample = data_observation.Sample(classes, seeds.generator(seed, "test"))
  labels = np.array(labels, np.int64)
  numbers = np.arange(len(labels), dtype=np.float32)[:, np.newaxis]
  for first in range(0, len(labels), batch):
    part = slice(first, first + batch)
    sample.add(examples.Batch(numbers[part], labels[part]))
  return [found.reshape(-1).astype(int).tolist() for found in sample.result()]


def test_sampled_examples_are_of_their_class_and_few():
  labels = [number % 3 // 2 for number in range(60)]
  zeros, ones = _sample(labels, 7)
  assert len(zeros) == len(set(zeros)) == len(ones) == len(set(ones)) == 3
  assert {labels[number] for number in zeros} == {0}
  assert {labels[number] for number in ones} == {1}
  assert [len(each) for each in _sample([1, 1], 1)] == [0, 2]


def test_batches_change_no_sample_and_seeds_do():
  labels = [0] * 50
  assert _sample(labels, 1) == _sample(labels, 8) == _sample(labels, 50)
  assert _sample(labels, 8) != _sample(labels, 8, seed=1)


def test_every_example_is_as_likely():
  drawn = collections.Counter(
    number for seed in range(400) for number in _sample([0] * 12, 5, seed)[0]
  )
  # Each is in 3/12 of 400 samples: 100, with a deviation of 8.7.
  assert all(60 < drawn[number] < 140 for number in range(12))


def test_of_many_classes_one_example_each_and_not_all():
  found = _sample(list(range(150)) * 2, 40, classes=150)
  assert len(found) == 100
  assert [len(each) for each in found] == [1] * 100


class TestObserved:
  def test_examples_pass_unchanged(self):
    source = inspected_data.dataset()
    seen = data_observation.Observation(source.info, 0, keeps_examples=True)
    watched = data_observation.observed(source, seen, Progress())
    for split in (TRAIN, TEST):
      batches = list(watched.read(split, examples.fail_on_bad_record))
      features = np.concatenate([batch.features for batch in batches])
      assert features.tolist() == [list(row) for row in inspected_data.FEATURES[split]]
    found = seen.statistics()
    assert (found[TRAIN].examples, found[TEST].examples) == (8, 2)
    # Pictures show what is trained on.
    kept = {tuple(row) for each in seen.samples() for row in each.tolist()}
    assert (5, 7) not in kept
    assert [len(each) for each in seen.samples()] == [3, 3, 0]

  def test_no_example_is_kept_that_nobody_wants(self):
    seen = data_observation.Observation(inspected_data.INFO, 0, keeps_examples=False)
    watched = data_observation.observed(inspected_data.dataset(), seen, Progress())
    list(watched.read(TRAIN, examples.fail_on_bad_record))
    assert seen.samples() == []

  def test_bad_records_are_noted_by_split_unless_they_end_it(self):
    bad = examples.BadRecord("a.csv", 3, "x", "is empty")

    def read(split, on_bad_record):
      on_bad_record(bad)
      yield examples.Batch(np.zeros((1, 2), np.uint8), np.zeros(1, np.int64))

    source = examples.Dataset(inspected_data.INFO, read)
    seen = data_observation.Observation(source.info, 0, keeps_examples=False)
    watched = data_observation.observed(source, seen, Progress())
    told: list[examples.BadRecord] = []
    list(watched.read(TEST, told.append))
    assert told == [bad]
    assert seen.rejected == {TRAIN: [], TEST: [bad]}
    with pytest.raises(InputError, match=r"a\.csv, record 3, field x"):
      list(watched.read(TRAIN, examples.fail_on_bad_record))
