"""Your own clients' examples, from SQLite files and a `dataset.json` beside them."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from fedtiny_tff.data.examples import (
  TEST,
  TRAIN,
  Dataset,
  DatasetInfo,
  OnBadRecord,
  fail_on_bad_record,
)
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import (
  client_description,
  client_keys,
  client_record_writer,
  client_records,
  client_sqlite_metadata,
  example_fields,
  holdout,
  sqlite_examples,
  sqlite_files,
  texts,
  unsafe,
)
from fedtiny_tff.data.sources.batch_decoding import UnusableRecord
from fedtiny_tff.data.sources.client_description import FILE_NAME
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.data.sources.sqlite_examples import Content, Source
from fedtiny_tff.errors import InputError

NAME = "client_sqlite"
_FIELDS = (client_records.IMAGE, client_records.FEATURES, "pixels")
_KINDS = {"float_list": tf.float32, "int64_list": tf.int64, "bytes_list": tf.string}


def open_client_sqlite(options: SourceOptions) -> Dataset:
  """Rows of TFF's SQLite layout: each a client and a `tf.train.Example`.

  `--data_dir` is a folder whose `dataset.json` names the files, or one file with
  `dataset.json` beside it, whose `splits` then do not matter. An example has a label
  (int64) and one of `image`, `features` and `pixels`: floats, int64 from 0 to 255, or
  an encoded image; which one shows in the first record that has any.

  Of each file those rows are read whose `split_name` is that of the split, or all
  where there is one name only. Without test files, the test split is the rows called
  so in the training files, or else `test_share` of each client's examples.

  Raises:
    InputError: When `dataset.json` or a file is missing, or not what it is said to be;
      or its table `client_metadata` tells something else of clients than its rows do.
  """
  if not options.data_dir:
    raise InputError(
      f"dataset {NAME} needs --data_dir: a folder with {FILE_NAME} and the SQLite files "
      f"that it names, or a SQLite file with {FILE_NAME} beside it"
    )
  path = pathlib.Path(options.data_dir)
  folder = path.parent if path.is_file() else path
  if not (folder / FILE_NAME).is_file():
    unsafe.refuse_pickles(path)
    shown = texts.one_line(str(folder / FILE_NAME))
    raise InputError(f"dataset {NAME}: {shown} not found; check --data_dir")
  said = client_description.read(folder)
  files = {TRAIN: (path,), TEST: ()} if path.is_file() else said.files
  sources = _sources(files, options.test_share)
  content = _content(sources[TRAIN])
  is_image = content.kind == tf.string
  shape = said.shape
  if is_image:
    _check_image_shape(folder, shape)
    shape = (*(options.image_size or shape[:2]), shape[2])
  elif options.image_size is not None:
    raise InputError(
      f"--image_size: the examples in {texts.one_line(str(path))} are no encoded images; "
      "leave the flag out"
    )
  scale = 1 / 255 if content.feature_type == "uint8" else 1.0
  preprocessing = said.preprocessing or Preprocessing(scale, (0.0,), (1.0,))
  if options.image_size is not None:
    resize = Resize(*options.image_size)
    preprocessing = dataclasses.replace(preprocessing, extraction=resize)
  info = DatasetInfo(
    name=NAME,
    shape=shape,
    feature_type=content.feature_type,
    class_names=said.class_names,
    preprocessing=preprocessing,
  )
  decoder = sqlite_examples.decoder(info, content, options.image_size is not None)
  reader = sqlite_examples.Reader(info, decoder, sources, True, {})
  return Dataset(info, reader.read, True, measures_inputs=not said.is_measured)


def _check_image_shape(folder: pathlib.Path, shape: tuple[int, ...]) -> None:
  if len(shape) != 3 or shape[2] not in (1, 3):
    path = texts.one_line(str(folder / FILE_NAME))
    raise InputError(
      f"{path}: shape of images must be [height, width, 1 or 3], got {list(shape)}"
    )


def _sources(
  files: Mapping[str, Sequence[pathlib.Path]], test_share: float
) -> dict[str, list[Source]]:
  """Returns the rows of each split."""
  train = [
    Source(path, sqlite_files.choose_split(path, TRAIN, TEST)) for path in files[TRAIN]
  ]
  test = [
    Source(path, sqlite_files.choose_split(path, TEST, TRAIN)) for path in files[TEST]
  ]
  if not test:
    within = [path for path in files[TRAIN] if TEST in sqlite_files.split_names(path)]
    test = [Source(path, TEST) for path in within]
  for source in (*train, *test):
    client_sqlite_metadata.check(source.path, source.split)
  return {TRAIN: train, TEST: test} if test else _held_out(train, test_share)


def _held_out(train: Sequence[Source], test_share: float) -> dict[str, list[Source]]:
  """Holds a share of each client's rows out."""
  clients = [sqlite_files.clients(source.path, source.split) for source in train]
  owners = np.concatenate([np.array(part, np.str_) for part in clients])
  # Labels count where nobody owns examples.
  is_test, _ = holdout.held_out(owners, np.zeros(len(owners), np.int64), test_share)
  ends = np.cumsum([len(part) for part in clients])[:-1]
  parts = list(zip(train, np.split(is_test, ends), strict=True))
  return {
    TRAIN: [Source(source.path, source.split, ~mask) for source, mask in parts],
    TEST: [Source(source.path, source.split, mask) for source, mask in parts],
  }


def _content(sources: Sequence[Source]) -> Content:
  """Finds the field that holds features, by the first record that has one."""
  found: list[str] = []
  for source in sources:
    for row in sqlite_files.rows(source.path, source.split, client_keys.ignore):
      try:
        fields = example_fields.features_of(row.serialized)
      except UnusableRecord:
        continue
      for name in _FIELDS:
        kind = fields[name].WhichOneof("kind") if name in fields else None
        if kind is not None:
          return Content(name, _KINDS[kind])
      found = found or sorted(fields)
  raise InputError(
    f"{texts.one_line(str(sources[0].path))}: no record of the training split has one of "
    f"the fields {', '.join(_FIELDS)}; name one of them so"
    + (f"; found are {', '.join(map(texts.value, found[:8]))}" if found else "")
  )


def rows(
  dataset: Dataset, split: str, on_bad_record: OnBadRecord = fail_on_bad_record
) -> Iterator[tuple[str, bytes]]:
  """Makes rows of a dataset's examples, for `sqlite_files.INSERT_EXAMPLE`.

  Args:
    dataset: With clients.
    split: Which of its splits.
    on_bad_record: Told of every bad record.

  Yields:
    Client id and serialized `tf.train.Example` as `client_record_writer` makes it, in
    the dataset's order.

  Raises:
    InputError: When examples have no owners.
  """
  if not dataset.has_clients:
    raise InputError(
      f"dataset {dataset.info.name} does not say whose its examples are, as {NAME} "
      "must; choose another format"
    )
  for batch in dataset.read(split, on_bad_record):
    records = client_record_writer.serialized([batch], dataset.info)
    for client, record in zip(np.asarray(batch.clients), records, strict=True):
      yield str(client), record
