"""Preprocessing and static facts of a dataset."""

import numpy as np

from fedtiny_tff.data.examples import Preprocessing
from tests.fedtiny_tff import support


def test_preprocessing_by_hand():
  how = Preprocessing(scale=0.5, mean=(1.0,), deviation=(2.0,))
  # (6 * 0.5 - 1) / 2 = 1; (0 - 1) / 2 = -0.5.
  applied = how.apply(np.array([[6], [0]], np.uint8))
  assert applied.dtype == np.float32
  np.testing.assert_array_equal(applied, [[1.0], [-0.5]])


def test_channels_have_their_own_mean_and_deviation():
  how = Preprocessing(scale=1.0, mean=(0.0, 10.0), deviation=(1.0, 5.0))
  applied = how.apply(np.array([[3.0, 20.0]], np.float32))
  np.testing.assert_array_equal(applied, [[3.0, 2.0]])


def test_large_bytes_do_not_wrap_around():
  how = Preprocessing(scale=2.0, mean=(0.0,), deviation=(1.0,))
  assert how.apply(np.array([255], np.uint8)).tolist() == [510.0]


def test_classes_are_counted():
  assert support.dataset_info((1,)).num_classes == 3
