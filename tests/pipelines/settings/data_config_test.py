"""Flags about data: what is refused, and what the sources are told."""

import pytest

from fedtiny_tff.errors import InputError
from pipelines.settings import data_config
from tests.pipelines import support


def _values(**changes):
  return support.flag_values(**changes)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"dataset": "mnist"}, "--dataset must be one of digits, .*prepared, or tfds:NAME"),
    ({"dataset": "tfds:"}, "--dataset must be one of"),
    ({"test_share": 0.0}, r"--test_share must be in \(0, 1\), got 0"),
    ({"test_share": 1.0}, r"--test_share must be in \(0, 1\), got 1"),
    ({"image_channels": 2}, "--image_channels must be 1 or 3, got 2"),
    ({"quantity_sigma": -1.0}, "--quantity_sigma must be at least 0, got -1"),
    ({"feature_extraction": "wavelet"}, "--feature_extraction must be one of none"),
    ({"image_size": "32"}, "--image_size must be HEIGHTxWIDTH like 32x32, got '32'"),
    ({"image_size": "0x8"}, "--image_size must be whole numbers from 1 to 16384"),
    ({"image_size": "8x-1"}, "--image_size must be whole numbers"),
    (
      {"image_size": "16384x16384"},
      "--image_size=16384x16384: more than 4,194,304 pix",
    ),
    ({"image_size": "²x8"}, "--image_size must be whole numbers"),
    ({"client_separator": "_ "}, "--client_separator='_ ': ends in white space"),
    (
      {"client_separator": "_\n_"},
      r"--client_separator='_\\n_': ends in .* or cannot be printed",
    ),
    ({"feature_shape": ["12", "x"]}, "--feature_shape must be whole numbers .* '12,x'"),
    (
      {"feature_shape": ["16777217"]},
      "--feature_shape must be whole numbers from 1 to 16777216",
    ),
    ({"feature_shape": ["9" * 5000]}, "--feature_shape must be whole numbers"),
    ({"image_size": "16385x8"}, "--image_size must be whole numbers from 1 to 16384"),
    ({"partitioner": "random"}, "--partitioner must be one of"),
    ({"on_bad_record": "ignore"}, "--on_bad_record must be one of fail, skip"),
    ({"num_clients": -1}, "--num_clients must be at least 0"),
    ({"window_rows": -1}, "--window_rows must be at least 0"),
  ],
)
def test_bad_values_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    support.make_config(**changes)


def test_defaults_are_accepted():
  data_config.check(_values())


def test_sources_are_told_what_the_flags_say():
  options = data_config.source_options(
    _values(
      data_dir="somewhere", image_size="24x32", image_channels=1,
      feature_shape=["128", " 1", "3"], label_column="activity", client_column="subject",
      feature_columns=["x", "y"], window_rows=128, window_stride_rows=64,
      feature_extraction="log_mel", sample_rate_hz=8000, test_share=0.25,
    )
  )  # fmt: skip
  assert options.data_dir == "somewhere"
  assert (options.image_size, options.image_channels) == ((24, 32), 1)
  assert options.feature_shape == (128, 1, 3)
  assert (options.label_column, options.client_column) == ("activity", "subject")
  assert options.feature_columns == ("x", "y")
  assert (options.window_rows, options.window_stride_rows) == (128, 64)
  assert (options.extraction, options.sample_rate_hz) == ("log_mel", 8000)
  assert options.test_share == 0.25


def test_nothing_given_leaves_it_to_the_data():
  options = data_config.source_options(_values())
  assert (options.data_dir, options.image_size, options.feature_shape) == (
    None,
    None,
    (),
  )


def test_the_assignment_is_that_of_the_flags():
  config = support.make_config(
    num_clients=7, dirichlet_alpha=0.3, shards_per_client=4, quantity_sigma=0.5,
    public_samples_per_class=2, seed=5,
  )  # fmt: skip
  made = config.federation("shards")
  assert (made.partitioner, made.num_clients, made.alpha) == ("shards", 7, 0.3)
  assert (made.shards_per_client, made.quantity_sigma) == (4, 0.5)
  assert (made.public_per_class, made.seed) == (2, 5)
