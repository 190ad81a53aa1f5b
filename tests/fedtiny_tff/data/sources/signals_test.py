"""Spectra instead of signals; and options that a source has no use for."""

import numpy as np
import pytest

from fedtiny_tff.data import extraction
from fedtiny_tff.data.examples import Batch, Dataset, DatasetInfo, fail_on_bad_record
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import registry, signals
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

_SIGNALS = np.random.default_rng(0).normal(size=(3, 800)).astype(np.float32)
_OPTIONS = SourceOptions(extraction="log_mel", sample_rate_hz=8_000)


def _dataset(shape=(800,)):
  info = DatasetInfo(
    "toy", shape, "float32", ("a", "b"), Preprocessing(2.0, (1.0,), (3.0,))
  )

  def read(split, on_bad_record):
    yield Batch(_SIGNALS, np.array([0, 1, 0]), np.array(["x", "y", "x"]))

  return Dataset(info, read, has_clients=True)


def test_spectra_take_the_place_of_signals():
  made = signals.with_extraction(_dataset(), _OPTIONS)
  # Windows of 240 samples every 160: 1 + (800 - 240) // 160 = 4 frames of 40 bins.
  assert made.info.shape == (4, 40, 1)
  assert made.measures_inputs
  declared = made.info.preprocessing
  assert declared == Preprocessing(
    1.0, (0.0,), (1.0,), extraction.declare("log_mel", (800,), 8_000)
  )
  (batch,) = made.read("train", fail_on_bad_record)
  assert batch.features.dtype == np.float32
  np.testing.assert_array_equal(
    batch.features, extraction.extract_batch(declared.extraction, _SIGNALS)
  )
  assert batch.labels.tolist() == [0, 1, 0]
  assert batch.clients is not None
  assert batch.clients.tolist() == ["x", "y", "x"]


def test_without_extraction_nothing_changes():
  dataset = _dataset()
  assert signals.with_extraction(dataset, SourceOptions()) is dataset


def test_what_is_no_signal_is_refused():
  with pytest.raises(InputError, match=r"--feature_extraction=log_mel: .*shape"):
    signals.with_extraction(_dataset((800, 3)), _OPTIONS)


def test_spectra_are_not_made_twice():
  once = signals.with_extraction(_dataset(), _OPTIONS)
  with pytest.raises(InputError, match="went through log_mel already"):
    signals.with_extraction(once, _OPTIONS)


@pytest.mark.parametrize(
  ("name", "options", "flag"),
  [
    ("digits", SourceOptions(window_rows=8), "window_rows"),
    ("digits", SourceOptions(image_size=(4, 4)), "image_size"),
    ("cifar10", SourceOptions(label_column="y"), "label_column"),
    ("csv", SourceOptions(image_channels=1), "image_channels"),
    ("client_tfrecord", SourceOptions(synthetic_clients=3), "synthetic_clients"),
    ("emnist", SourceOptions(test_share=0.5), "test_share"),
    ("tfds:mnist", SourceOptions(feature_shape=(3,)), "feature_shape"),
  ],
)
def test_an_option_without_use_is_refused(name, options, flag):
  message = f"--{flag}: dataset {name} has no use for it; leave the flag out"
  with pytest.raises(InputError, match=message):
    registry.load(name, options)


def test_where_signals_come_from_is_told():
  message = "--feature_extraction: of dataset image_folder no spectra .* audio_folder"
  with pytest.raises(InputError, match=message):
    registry.load("image_folder", SourceOptions(extraction="mfcc"))


def test_every_option_is_read_by_some_source():
  fields = {field for source in registry.SOURCES.values() for field in source.reads}
  assert fields | {"data_dir", "image_channels"} == set(SourceOptions().__dict__)
