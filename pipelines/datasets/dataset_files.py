"""Datasets as the files of another form."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.data import examples
from fedtiny_tff.data.examples import SPLITS, TEST, TRAIN, Batch
from fedtiny_tff.data.sources import (
  client_description,
  client_record_writer,
  client_records,
  client_sqlite,
  sqlite_files,
)
from fedtiny_tff.errors import InputError
from pipelines.apps import files
from pipelines.apps.progress import Progress
from pipelines.datasets import data_plan, data_stage
from pipelines.settings import config as config_lib
from pipelines.settings import data_config

# Owner of test examples that nobody owns.
_NOBODY = "test"
_DIGEST_BYTES = 16


class Written(NamedTuple):
  """What was written.

  Attributes:
    clients: Owners of training examples.
    training_examples: Their examples.
    test_examples: Examples of the test split.
  """

  clients: int
  training_examples: int
  test_examples: int


def write_prepared(
  config: config_lib.RunConfig, folder: pathlib.Path, progress: Progress
) -> Written:
  """Writes the data that a run with these flags would write for itself.

  With --anomaly_classes they are for a model that finds anomalies.
  """
  _refuse_prepared(config)
  task = tasks.RECONSTRUCT if config.anomaly_classes else tasks.CLASSIFY
  opened = data_plan.open_dataset(config)
  plan = data_plan.plan_data(config, opened, task, progress)
  progress.say("writing records")
  with files.making_folder(folder, "output_dir") as fresh:
    data = data_stage.write_data(plan, fresh)
    facts = data.summary()
  kept = facts["training_examples"] + facts["development_examples"]
  return Written(facts["clients"], kept, facts["test_examples"])


def _refuse_prepared(config: config_lib.RunConfig) -> None:
  if config.dataset == data_config.PREPARED:
    raise InputError(
      "--dataset=prepared: is split already; convert the dataset it was made from"
    )


def _owned(
  config: config_lib.RunConfig, progress: Progress
) -> tuple[examples.Dataset, int]:
  """Gives every training example an owner, and the server none.

  Returns:
    A dataset that names them, and how many they are.
  """
  _refuse_prepared(config)
  if config.anomaly_classes:
    raise InputError(
      "--anomaly_classes: only --to_format=prepared leaves anomalies out; take that, or "
      "name them when you train"
    )
  whole = config_lib.RunConfig({**config.values, "public_samples_per_class": 0})
  opened = data_plan.open_dataset(whole)
  plan = data_plan.plan_data(whole, opened, tasks.CLASSIFY, progress)
  what = plan.unwritten
  assert what is not None
  if what.source.overlap:
    raise InputError(
      "windows overlap, and who reads the copy could not hold any out that share no row "
      "with one to train on; write it with --to_format=prepared, which does, or leave "
      "--window_stride_rows out"
    )
  owner_of = _owners(what)
  nobody = _NOBODY
  while nobody in what.client_ids:
    nobody += "_"
  names = np.array([*what.client_ids, nobody], np.str_)

  def read(split: str, on_bad_record: examples.OnBadRecord) -> Iterator[Batch]:
    seen = 0
    for batch in what.read(split, on_bad_record):
      owners = owner_of[split][seen : seen + len(batch.labels)]
      seen += len(batch.labels)
      kept = np.flatnonzero(owners >= 0)
      if len(kept):
        yield Batch(batch.features[kept], batch.labels[kept], names[owners[kept]])

  owned = dataclasses.replace(what.source, info=plan.info, read=read, has_clients=True)
  return owned, len(what.client_ids)


def _owners(what: data_plan.Unwritten) -> dict[str, np.ndarray]:
  """Numbers the owner of each example of each split; -1 where it is left out.

  Test examples of nobody who trains are those of one more client.
  """
  made, found = what.federation, what.found
  training = np.full(len(found.train), -1, np.int64)
  for number, parts in enumerate(zip(made.training, made.development, strict=True)):
    for part in parts:
      training[part] = number
  test = np.full(len(found.test), len(what.client_ids), np.int64)
  if what.test_owners is not None:
    test = _places(made.clients, what.test_owners)
  return {TRAIN: training, TEST: test}


def _places(clients: np.ndarray, owners: np.ndarray) -> np.ndarray:
  """Returns where each owner stands among the clients; one beyond for all others."""
  order = np.argsort(clients)
  found = np.searchsorted(clients, owners, sorter=order)
  places = order[np.minimum(found, len(clients) - 1)]
  return np.where(clients[places] == owners, places, len(clients))


def write_client_tfrecord(
  config: config_lib.RunConfig, folder: pathlib.Path, progress: Progress
) -> Written:
  """Writes TFRecord files of `tf.train.Example` messages and their `dataset.json`."""
  owned, clients = _owned(config, progress)
  names = {split: f"{split}.tfrecord" for split in SPLITS}
  counts = dict.fromkeys(SPLITS, 0)
  with files.making_folder(folder, "output_dir") as fresh:
    for split, name in names.items():
      batches = owned.read(split, data_plan.ignore_bad_record)
      with tf.io.TFRecordWriter(str(fresh / name)) as writer:
        for record in client_record_writer.serialized(batches, owned.info):
          writer.write(record)
          counts[split] += 1
    _describe(fresh, owned, names, counts)
  return Written(clients, counts[TRAIN], counts[TEST])


def write_client_sqlite(
  config: config_lib.RunConfig, folder: pathlib.Path, progress: Progress
) -> Written:
  """Writes a database that TFF's `SqlClientData` opens, and its `dataset.json`."""
  owned, clients = _owned(config, progress)
  name = "examples.sqlite"
  repeated = 0
  counts = dict.fromkeys(SPLITS, 0)
  with (
    files.making_folder(folder, "output_dir") as fresh,
    contextlib.closing(sqlite3.connect(fresh / name)) as database,
  ):
    for statement in sqlite_files.SCHEMA:
      database.execute(statement)
    for split in SPLITS:
      by_client: collections.Counter[str] = collections.Counter()
      written: set[tuple[str, bytes]] = set()
      for client, record in client_sqlite.rows(
        owned, split, data_plan.ignore_bad_record
      ):
        # The same row twice is taken for a mistake by whoever reads it.
        digest = client, hashlib.blake2b(record, digest_size=_DIGEST_BYTES).digest()
        if digest in written:
          repeated += 1
          continue
        written.add(digest)
        database.execute(sqlite_files.INSERT_EXAMPLE, (split, client, record))
        by_client[client] += 1
      for client, count in sorted(by_client.items()):
        database.execute(sqlite_files.INSERT_CLIENT, (client, split, count))
      counts[split] = by_client.total()
    database.commit()
    if repeated:
      progress.say(f"left out {repeated:,} examples that their owners hold twice")
    # The test split is what is called so in the same file.
    _describe(fresh, owned, {TRAIN: name}, counts)
  return Written(clients, counts[TRAIN], counts[TEST])


def _describe(
  folder: pathlib.Path,
  owned: examples.Dataset,
  names: dict[str, str],
  counts: dict[str, int],
) -> None:
  """Writes `dataset.json`; an empty split has no file."""
  document = client_record_writer.description(
    owned.info,
    {split: [name] for split, name in names.items() if counts[split]},
    with_normalisation=not owned.measures_inputs,
  )
  text = json.dumps(document, indent=1) + "\n"
  files.write_text(folder / client_description.FILE_NAME, text)


Writer = Callable[[config_lib.RunConfig, pathlib.Path, Progress], Written]

WRITERS: dict[str, Writer] = {
  "prepared": write_prepared,
  client_records.NAME: write_client_tfrecord,
  client_sqlite.NAME: write_client_sqlite,
}
