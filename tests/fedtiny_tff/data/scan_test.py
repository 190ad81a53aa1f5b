"""What one pass over a dataset finds."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from fedtiny_tff.data import scan
from fedtiny_tff.data.examples import BadRecord, Batch, Dataset
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support


def _dataset(train, test=(), info=None, bad=(), **facts):
  """Each split is a list of batches (features, labels[, clients])."""

  def read(split, on_bad):
    for record in bad if split == "train" else ():
      on_bad(record)
    for features, labels, *clients in train if split == "train" else test:
      yield Batch(np.asarray(features), np.array(labels, np.int64), *clients)

  return Dataset(info or support.dataset_info((2,), "float32"), read, **facts)


def _floats(*rows):
  return np.array(rows, np.float32)


def test_labels_and_contents_in_the_sources_order():
  found = scan.scan(
    _dataset(
      [(_floats([1, 2], [3, 4]), [0, 2]), (_floats([1, 2]), [1])],
      [(_floats([3, 4]), [2])],
    )
  )
  assert found.train.labels.tolist() == [0, 2, 1]
  assert found.test.labels.tolist() == [2]
  first, second, third = found.train.contents.tolist()
  # Content is of the features alone.
  assert first == third != second
  assert found.test.contents.tolist() == [second]
  assert found.client_ids == ()
  assert found.train.owners is None


def test_owners_are_numbered_by_sorted_id():
  found = scan.scan(
    _dataset(
      [
        (_floats([1, 2], [3, 4]), [0, 0], np.array(["zoe", "ann"])),
        (_floats([5, 6]), [0], np.array(["bartholomew"])),
      ],
      # Nobody of the training split is called "carl".
      [(_floats([7, 8], [9, 9]), [0, 0], np.array(["carl", "zoe"]))],
      has_clients=True,
    )
  )
  assert found.client_ids == ("ann", "bartholomew", "zoe")
  assert found.train.owners is not None
  assert found.test.owners is not None
  assert found.train.owners.tolist() == [2, 0, 1]
  assert found.test.owners.tolist() == [3, 2]


def test_mean_and_deviation_by_hand_whatever_the_batches():
  info = support.dataset_info((2,), "float32")
  scaled = dataclasses.replace(info.preprocessing, scale=0.5)
  info = dataclasses.replace(info, preprocessing=scaled)
  rows = _floats([2, 7], [4, 7], [6, 7], [8, 7])
  for batches in ([(rows, [0] * 4)], [(rows[:1], [0]), (rows[1:], [0] * 3)]):
    dataset = _dataset(batches, info=info, measures_inputs=True)
    found = scan.scan(dataset)
    # 2, 4, 6, 8: mean 5, variance (9 + 1 + 1 + 9) / 4 = 5; half of it by the scale.
    np.testing.assert_allclose(found.mean, [2.5, 3.5])
    # A channel that never changes is divided by 1, not by 0.
    np.testing.assert_allclose(found.deviation, [np.sqrt(5) / 2, 1.0])
    fitted = scan.fitted_info(dataset, found).preprocessing
    np.testing.assert_allclose(fitted.apply(rows).mean(axis=0), [0, 0], atol=1e-6)
    np.testing.assert_allclose(fitted.apply(rows)[:, 0].std(), 1.0, rtol=1e-6)


def test_moments_do_not_cancel():
  values = np.random.default_rng(0).normal(1e4, 1e-2, (50, 40, 1)).astype(np.float32)
  info = support.dataset_info((40, 1), "float32")
  found = scan.scan(_dataset([(rows[None], [0]) for rows in values], info=info))
  exact = values.astype(np.float64)
  np.testing.assert_allclose(found.mean, exact.mean(), rtol=1e-12)
  np.testing.assert_allclose(found.deviation, exact.std(), rtol=1e-6)


def test_known_normalisation_is_kept():
  dataset = _dataset([(_floats([1, 2]), [0])])
  assert scan.fitted_info(dataset, scan.scan(dataset)) == dataset.info


def test_bad_records_stop_the_scan_or_are_kept_count_of():
  bad = BadRecord("a.tfrecord", 7, "image", "is no image")
  dataset = _dataset([(_floats([1, 2]), [0])], bad=[bad])
  message = "a.tfrecord, record 7, field image: is no image; mend it, or leave such out"
  with pytest.raises(InputError, match=message):
    scan.scan(dataset)
  assert scan.scan(dataset, lambda record: None).bad_records == (bad,)


@pytest.mark.parametrize(
  ("features", "labels", "message"),
  [
    (np.zeros((1, 3), np.float32), [0], r"is float32\[3\], expected float32\[2\]"),
    (np.zeros((1, 2), np.uint8), [0], r"is uint8\[2\], expected float32\[2\]"),
    (np.zeros((1, 2), np.float32), [3], r"label 3 is not in \[0, 3\)"),
    (np.zeros((1, 2), np.float32), [-1], r"label -1 is not in \[0, 3\)"),
  ],
)
def test_a_source_is_held_to_what_it_says(features, labels, message):
  with pytest.raises(InputError, match=message):
    scan.scan(_dataset([(features, labels)]))


def test_a_dataset_without_training_examples_is_refused():
  with pytest.raises(InputError, match="dataset toy: no training example can be used"):
    scan.scan(_dataset([]))
  bad = BadRecord("a", None, None, "empty")
  with pytest.raises(InputError, match=r"1 records were left out$"):
    scan.scan(_dataset([], bad=[bad]), lambda record: None)


def test_the_digest_is_of_contents_labels_and_their_order():
  def digest(rows, labels):
    return scan.scan(_dataset([(_floats(*rows), labels)])).content_sha256

  once = digest([[1, 2], [3, 4]], [0, 1])
  assert digest([[1, 2], [3, 4]], [0, 1]) == once
  assert digest([[3, 4], [1, 2]], [0, 1]) != once
  assert digest([[1, 2], [3, 4]], [0, 2]) != once


def test_bad_records_say_where_they_are():
  assert str(BadRecord("f.csv", 3, "x", "is NaN")) == "f.csv, record 3, field x: is NaN"
  assert str(BadRecord("f.png", None, None, "is empty")) == "f.png: is empty"


def test_measuring_takes_one_copy_of_a_batch_in_double_precision():
  images = np.zeros([4, 256, 256, 3], np.uint8)
  info = support.dataset_info(images.shape[1:])
  dataset = _dataset([(images, [0, 1, 2, 0])], info=info)
  tracemalloc.start()
  try:
    scan.scan(dataset)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert 8 * images.nbytes < peak < 12 * images.nbytes


def test_zero_has_no_sign():
  one, other = (np.array([[0.5, zero]], np.float32) for zero in (0.0, -0.0))
  assert one.tobytes() != other.tobytes()
  assert scan.content_hashes(one) == scan.content_hashes(other)


_SEEN = [(_floats([1, 2], [3, 4]), [0, 2]), (_floats([5, 6]), [1])]


def _read_later(later):
  """Reads a training split that was `_SEEN` in the first pass."""
  dataset = _dataset(later)
  facts = scan.scan(_dataset(_SEEN)).train
  batches = dataset.read("train", lambda record: None)
  return list(scan.unchanged(batches, facts, dataset.info))


def test_a_later_pass_may_find_the_same_in_other_batches():
  (batch,) = _read_later([(_floats([1, 2], [3, 4], [5, 6]), [0, 2, 1])])
  assert batch.labels.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
  "later",
  [
    [(_floats([3, 4], [1, 2]), [2, 0]), _SEEN[1]],
    [(_floats([1, 2], [3, 4]), [0, 1]), _SEEN[1]],
    [(_floats([1, 2], [3, 5]), [0, 2]), _SEEN[1]],
    [(_floats([9, 9]), [0]), *_SEEN],
    [*_SEEN, (_floats([9, 9]), [0])],
    _SEEN[:1],
    [],
  ],
)
def test_a_later_pass_that_finds_anything_else_is_refused(later):
  with pytest.raises(InputError, match="toy: its files changed while they were read"):
    _read_later(later)
