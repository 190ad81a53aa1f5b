"""From a dataset by name to who gets what of it; nothing is written yet.

A dataset is opened, seen once (`scan`) and assigned to the server and the clients; or it
was written before, by this run or by `pipelines.make_dataset`, and is opened where it
lies.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np

from fedtiny_tff import tasks
from fedtiny_tff.data import (
  examples,
  federation,
  partition_file,
  partitioners,
  scan,
)
from fedtiny_tff.data.examples import TEST, TRAIN
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.errors import InputError
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder
from pipelines.datasets.data_folder import RunData
from pipelines.settings import anomalies, data_config
from pipelines.settings import config as config_lib

# Share of the examples whose repeated features a person should know of.
_NOTABLE_DUPLICATES = 0.01


def ignore_bad_record(record: examples.BadRecord) -> None:
  """Leaves it at that: bad records are counted in any case."""


_ON_BAD_RECORD: dict[str, examples.OnBadRecord] = {
  "fail": examples.fail_on_bad_record,
  "skip": ignore_bad_record,
}


@dataclasses.dataclass(frozen=True)
class OpenedDataset:
  """A dataset before anybody is assigned anything.

  Attributes:
    info: Static facts; mean and deviation may still have to be measured.
    source: Where examples come from; None where they are written already.
    written: The folder where they are written; None where they are not.
  """

  info: examples.DatasetInfo
  source: Optional[examples.Dataset] = None
  written: Optional[pathlib.Path] = None


@dataclasses.dataclass(frozen=True)
class DataPlan:
  """A dataset and who gets what of it.

  Attributes:
    info: Static facts.
    public_examples: Samples that the server has.
    training_sizes: int64 [clients], how many examples each trains on.
    anomalies: Labels that belong to nobody.
    unwritten: What is to be written, or None where `written` says where it is.
    written: The data, where they are written.
  """

  info: examples.DatasetInfo
  public_examples: int
  training_sizes: np.ndarray
  anomalies: tuple[int, ...]
  unwritten: Optional["Unwritten"] = None
  written: Optional[RunData] = None


@dataclasses.dataclass(frozen=True)
class Unwritten:
  """What is to be written.

  Attributes:
    source: Where examples come from.
    found: What a pass over them found.
    federation: Which training example belongs to whom.
    partitioner: How it was assigned: a partitioner's name, or "file".
    client_ids: Name of each client.
    assignment: The flags that decided it.
  """

  source: examples.Dataset
  found: scan.Scan
  federation: federation.Federation
  partitioner: str
  client_ids: tuple[str, ...]
  assignment: dict[str, Any]

  @property
  def test_owners(self) -> Optional[np.ndarray]:
    """Which of the clients each test example belongs to; None where to nobody.

    Dealt clients are not those that the test split names.
    """
    is_natural = self.partitioner in ("natural", "file")
    return self.found.test.owners if is_natural else None

  def read(
    self, split: str, on_bad_record: examples.OnBadRecord = ignore_bad_record
  ) -> Iterator[examples.Batch]:
    """Reads the source once more, and holds it to what the first pass found.

    Raises:
      InputError: When its files changed since.
    """
    facts = {TRAIN: self.found.train, TEST: self.found.test}[split]
    batches = self.source.read(split, on_bad_record)
    return scan.unchanged(batches, facts, self.source.info)


def open_dataset(
  config: config_lib.RunConfig, folder: Optional[pathlib.Path] = None
) -> OpenedDataset:
  """Opens the dataset.

  Args:
    config: The run's flags.
    folder: Where its data may have been written before.

  Raises:
    InputError: When files are missing or not what they are said to be.
  """
  if config.dataset == data_config.PREPARED:
    if not config.data_dir:
      raise InputError(
        "--dataset=prepared needs --data_dir: a folder that pipelines.make_dataset wrote"
      )
    folder = pathlib.Path(config.data_dir)
    sources.refuse_unread(data_config.PREPARED, frozenset({"data_dir"}), config.source)
    if not data_folder.is_written(folder):
      raise InputError(
        f"--data_dir={folder}: holds no prepared data; write some with python -m "
        "pipelines.make_dataset --to_format=prepared"
      )
  if folder is not None and data_folder.is_written(folder):
    info, _ = data_folder.read_description(folder)
    return OpenedDataset(info, written=folder)
  source = sources.load(config.dataset, config.source)
  return OpenedDataset(source.info, source)


def plan_data(
  config: config_lib.RunConfig,
  opened: OpenedDataset,
  task: tasks.Task,
  progress: Optional[Progress] = None,
) -> DataPlan:
  """Assigns the training split; anomalies are left out of it.

  Args:
    config: The run's flags.
    opened: The dataset.
    task: What the model is for.
    progress: Where long reading is shown.

  Raises:
    InputError: When the split cannot be made.
  """
  left_out = anomalies.anomaly_labels(config.anomaly_classes, opened.info, task)
  if opened.written is not None:
    return _planned_from(config, opened.written, left_out)
  assert opened.source is not None
  source = _told(opened.source, progress)
  found = scan.scan(source, _ON_BAD_RECORD[config.on_bad_record])
  with _telling_left_out(found):
    if config.partition_file:
      unwritten = _from_file(config, source, found, left_out)
    else:
      unwritten = _assigned(config, source, found, left_out)
    _check_held_out(unwritten.federation)
  if progress is not None:
    _warn(unwritten, progress)
  training = unwritten.federation.training
  sizes = np.array([len(part) for part in training], np.int64)
  _check_participants(config, len(sizes))
  return DataPlan(
    scan.fitted_info(source, found),
    len(unwritten.federation.public),
    sizes,
    left_out,
    unwritten,
  )


@contextlib.contextmanager
def _telling_left_out(found: scan.Scan) -> Iterator[None]:
  """Says of errors about what is left that there was more."""
  try:
    yield
  except InputError as error:
    bad = found.bad_records
    if not bad:
      raise
    raise InputError(f"{error} ({_left_out(bad)})") from error


def _left_out(bad: Sequence[examples.BadRecord]) -> str:
  count = "1 bad record" if len(bad) == 1 else f"{len(bad):,} bad records, the first"
  return f"left out {count}: {bad[0]}"


def _planned_from(
  config: config_lib.RunConfig, folder: pathlib.Path, left_out: tuple[int, ...]
) -> DataPlan:
  data = data_folder.open_folder(folder)
  if set(data.anomalies) != set(left_out):
    raise InputError(
      f"{folder}: was written for anomaly classes "
      f"{[data.info.class_names[label] for label in data.anomalies]}, the model wants "
      f"{[data.info.class_names[label] for label in left_out]}; write it again with "
      "this --model and --anomaly_classes"
    )
  if config.dataset == data_config.PREPARED:
    _, document = data_folder.read_description(folder)
    data_config.check_assignment(config.values, document["assignment"], folder)
    data = data.first_clients(config.num_clients)
  _check_participants(config, len(data.references))
  return DataPlan(
    data.info,
    data.public.num_records,
    np.asarray(data.references[:, 2]),
    data.anomalies,
    written=data,
  )


def _check_participants(config: config_lib.RunConfig, clients: int) -> None:
  if config.clients_per_round > clients:
    raise InputError(
      f"--clients_per_round is {config.clients_per_round}, but only {clients} clients "
      "have examples to train on: lower it (0 = all)"
    )


def _assigned(
  config: config_lib.RunConfig,
  source: examples.Dataset,
  found: scan.Scan,
  left_out: tuple[int, ...],
) -> Unwritten:
  name = config.partitioner or partitioners.default_partitioner(source.has_clients)
  assigned = federation.federate(
    found.train, found.test.contents, config.federation(name), left_out, source.overlap
  )
  if name == "natural":
    client_ids = tuple(found.client_ids[number] for number in assigned.clients)
  else:
    client_ids = tuple(str(number) for number in assigned.clients)
  return Unwritten(source, found, assigned, name, client_ids, _assignment(config, name))


def _assignment(
  config: config_lib.RunConfig, partitioner: Optional[str]
) -> dict[str, Any]:
  given = {name: config.values[name] for name in data_config.ASSIGNMENT}
  return {**given, "partitioner": partitioner}


def _natural_numbers(
  saved: partition_file.SavedPartition, found: scan.Scan
) -> np.ndarray:
  """Numbers saved clients among the source's; -1 for one that is none of them.

  A dealt client may be called like a natural one: what it trains on tells them apart.
  """
  clients = np.full(len(saved.client_ids), -1, np.int64)
  if found.train.owners is not None:
    numbers = {client: number for number, client in enumerate(found.client_ids)}
    for place, name in enumerate(saved.client_ids):
      number = numbers.get(name, -1)
      if (found.train.owners[saved.training[place]] == number).all():
        clients[place] = number
  return clients


def _from_file(
  config: config_lib.RunConfig,
  source: examples.Dataset,
  found: scan.Scan,
  left_out: tuple[int, ...],
) -> Unwritten:
  name = config.partition_file
  try:
    text = pathlib.Path(name).read_text()
  except (OSError, ValueError) as error:
    raise InputError(f"--partition_file={name}: cannot be read: {error}") from error
  saved = partition_file.from_text(text, name)
  partition_file.check(saved, source.info.name, len(found.train), found.content_sha256)
  data_config.check_saved_clients(config.values, len(saved.client_ids))
  _refuse_left_out(name, saved, found, source, left_out)
  clients = _natural_numbers(saved, found)
  assigned = federation.disjoint(
    federation.Federation(saved.public, saved.training, saved.development, clients),
    found.train,
    found.test.contents,
    source.overlap,
  )
  if len(assigned.training) != len(saved.training):
    raise InputError(
      f"--partition_file={name}: has clients without training examples; "
      "give another, or leave the flag out"
    )
  return Unwritten(
    source,
    found,
    assigned,
    "file",
    saved.client_ids,
    _assignment(config, config.partitioner),
  )


def _refuse_left_out(
  name: str,
  saved: partition_file.SavedPartition,
  found: scan.Scan,
  source: examples.Dataset,
  left_out: tuple[int, ...],
) -> None:
  """Refuses a file that gives somebody what nobody may have."""
  given = np.concatenate([saved.public, *saved.training, *saved.development])
  wrong = np.intersect1d(found.train.labels[given], left_out)
  if len(wrong):
    names = ", ".join(source.info.class_names[label] for label in wrong)
    raise InputError(
      f"--partition_file={name}: gives examples of class {names} away, which are the "
      "anomalies to be found; take a file of a run with the same --anomaly_classes"
    )


def _check_held_out(assigned: federation.Federation) -> None:
  """Raises `InputError` when there is nothing to judge candidates on."""
  if not any(map(len, assigned.development)):
    raise InputError(
      "no client has an example to hold out: each holds out a tenth of its own, one "
      "stays to train on, and copies of what anybody trains on are left out; look at "
      "the data with python -m pipelines.data"
    )


def check_test(plan: DataPlan) -> None:
  """Raises `InputError` when there is nothing to judge the final model on."""
  if plan.unwritten is not None:
    count = len(plan.unwritten.found.test)
  else:
    assert plan.written is not None
    count = plan.written.test.num_records
  if not count:
    raise InputError(
      f"dataset {plan.info.name}: no example to test on; bring a test split, or more "
      "examples: where there is none, --test_share of each owner's classes of five or "
      "more is it"
    )


def _warn(what: Unwritten, progress: Progress) -> None:
  """Tells what was left out, and why."""
  for note in what.source.notes:
    progress.say(note)
  bad = what.found.bad_records
  if bad:
    progress.warn(_left_out(bad))
  repeated, count = what.federation.duplicates.total, len(what.found.train)
  if repeated > _NOTABLE_DUPLICATES * count:
    progress.warn(
      f"{repeated} of {count} training examples repeat features of the test "
      "split, the public samples or other clients' training, or overlap with them, and "
      "were left out"
    )


def _told(source: examples.Dataset, progress: Optional[Progress]) -> examples.Dataset:
  """Returns a dataset that shows how far reading is."""
  if progress is None:
    return source

  def read(split: str, on_bad: examples.OnBadRecord) -> Iterator[examples.Batch]:
    count = 0
    with progress.counting(f"{source.info.name}: {split} examples read") as counter:
      for batch in source.read(split, on_bad):
        count += len(batch.labels)
        counter.advance_to(count)
        yield batch

  return dataclasses.replace(source, read=read)
