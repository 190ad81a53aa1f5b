"""The handwritten digits embedded in scikit-learn."""

from collections.abc import Iterator

import numpy as np

from fedtiny_tff.data.examples import TEST, Batch, Dataset, DatasetInfo, OnBadRecord
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources.options import SourceOptions

# The embedded digits have no split of their own; this one never changes, so the
# test examples are the same for every seed.
_TEST_SHARE = 0.2
_SPLIT_SEED = 20221201


def open_digits(options: SourceOptions) -> Dataset:
  """The 1,797 8×8 digits inside scikit-learn's wheel (UCI optical digits)."""
  del options  # Embedded.
  from sklearn import datasets  # noqa: PLC0415 - a slow import only digits need

  bunch = datasets.load_digits()
  features = bunch.images.astype(np.uint8)[..., np.newaxis]
  labels = bunch.target.astype(np.int64)
  generator = np.random.default_rng(_SPLIT_SEED)
  is_test = np.zeros(len(labels), dtype=bool)
  for label in range(10):
    members = generator.permutation(np.flatnonzero(labels == label))
    is_test[members[: round(len(members) * _TEST_SHARE)]] = True

  def read(split: str, on_bad_record: OnBadRecord) -> Iterator[Batch]:
    del on_bad_record  # There are none.
    chosen = is_test if split == TEST else ~is_test
    yield Batch(features[chosen], labels[chosen])

  info = DatasetInfo(
    name="digits",
    shape=(8, 8, 1),
    feature_type="uint8",
    class_names=tuple(str(digit) for digit in range(10)),
    preprocessing=Preprocessing(scale=1 / 16, mean=(0.3,), deviation=(0.38,)),
  )
  return Dataset(info, read)
