"""Spectra instead of raw signals, for any source that has such."""

import dataclasses
from collections.abc import Iterator

from fedtiny_tff.data import extraction as extraction_lib
from fedtiny_tff.data.examples import Batch, Dataset, OnBadRecord
from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError


def with_extraction(dataset: Dataset, options: SourceOptions) -> Dataset:
  """Makes spectra of a dataset's signals, if they are asked for.

  Args:
    dataset: Examples of shape [samples].
    options: Which spectra, and how many samples a second there are.

  Raises:
    InputError: When the examples are no signals, or are spectra already.
  """
  if options.extraction == NO_EXTRACTION.kind:
    return dataset
  info = dataset.info
  if info.preprocessing.extraction != NO_EXTRACTION:
    raise InputError(
      f"--feature_extraction={options.extraction}: dataset {info.name} went through "
      f"{info.preprocessing.extraction.kind} already; leave the flag out"
    )
  try:
    extraction = extraction_lib.declare(
      options.extraction, info.shape, options.sample_rate_hz, options.image_size
    )
  except InputError as error:
    raise InputError(f"--feature_extraction={options.extraction}: {error}") from error
  made = dataclasses.replace(
    info,
    shape=extraction.output_shape(info.shape),
    feature_type="float32",
    preprocessing=Preprocessing(1.0, (0.0,), (1.0,), extraction),
  )

  def read(split: str, on_bad_record: OnBadRecord) -> Iterator[Batch]:
    for batch in dataset.read(split, on_bad_record):
      features = extraction_lib.extract_batch(extraction, batch.features)
      yield batch._replace(features=features)

  return dataclasses.replace(dataset, info=made, read=read, measures_inputs=True)
