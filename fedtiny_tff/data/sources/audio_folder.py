"""Recordings in folders: class/recording or client/class/recording, as WAV files."""

import collections
import functools
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Union

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import Dataset, DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import class_folders, recordings, texts
from fedtiny_tff.data.sources.folder_walk import ClassFile, FileKind
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

NAME = "audio_folder"
_RECORDING = FileKind("recording", "a", (".wav", ".wave"))
_THREADS = 4


def open_audio_folder(options: SourceOptions) -> Dataset:
  """Recordings whose folders say what they are and perhaps whose.

  Folders are those of `class_folders.open_folder`. Signals have one length: shorter
  ones are filled up with silence, longer ones cut at the end. It is `feature_shape`,
  or else the length that most training recordings have (the longest of several).

  Args:
    options: Also `sample_rate_hz`, which all recordings must have, `feature_shape`,
      and `extraction`.

  Returns:
    Signals, float32 [samples] in [-1, 1].

  Raises:
    InputError: When the folder holds no such recordings.
  """
  if len(options.feature_shape) > 1:
    given = ",".join(map(str, options.feature_shape))
    raise InputError(
      f"--feature_shape={given}: recordings have one dimension; give the number of "
      "samples, such as 16000"
    )
  folders = class_folders.open_folder(NAME, _RECORDING, options)
  training = folders.training_files
  lengths = _lengths(training, options.sample_rate_hz)
  samples = options.feature_shape[0] if options.feature_shape else _usual(lengths)
  info = DatasetInfo(
    name=NAME,
    shape=(samples,),
    feature_type="float32",
    class_names=folders.class_names,
    preprocessing=Preprocessing(1.0, (0.0,), (1.0,)),
  )
  load = functools.partial(_load, samples, options.sample_rate_hz)
  return Dataset(
    info,
    class_folders.Reader(info, folders, load).read,
    folders.listing.has_clients,
    measures_inputs=True,
    notes=(*folders.listing.notes, *_notes(lengths, samples)),
  )


def _lengths(training: Sequence[ClassFile], sample_rate_hz: int) -> list[int]:
  """Returns how many samples each recording has that can be used.

  Raises:
    InputError: When none can be, with the first one's flaw.
  """
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    found = list(pool.map(functools.partial(_length, sample_rate_hz), training))
  lengths = [each for each in found if isinstance(each, int)]
  if not lengths:
    raise InputError(
      f"{texts.one_line(training[0].path)}: {found[0]}; none of the {len(training)} "
      "training recordings can be used; save them as WAV files of one channel and rate"
    )
  return lengths


def _length(sample_rate_hz: int, recording: ClassFile) -> Union[int, str]:
  try:
    return recordings.length(recording.path, sample_rate_hz)
  except recordings.UnusableRecording as error:
    return str(error)


def _usual(lengths: Sequence[int]) -> int:
  """Returns the length that most have; the longest of several such."""
  counts = collections.Counter(lengths)
  return max(counts, key=lambda length: (counts[length], length))


def _notes(lengths: Sequence[int], samples: int) -> Iterator[str]:
  """Says how many recordings are brought to the common length."""
  shorter = sum(length < samples for length in lengths)
  longer = sum(length > samples for length in lengths)
  if shorter or longer:
    yield (
      f"training recordings are brought to {samples:,} samples: {longer:,} of "
      f"{len(lengths):,} are cut at the end, {shorter:,} filled up with silence "
      "(--feature_shape)"
    )


def _load(samples: int, sample_rate_hz: int, path: str) -> Union[Array, str]:
  """Returns a recording's signal, or why it cannot be used."""
  try:
    return recordings.fitted(recordings.read(path, sample_rate_hz), samples)
  except recordings.UnusableRecording as error:
    return str(error)
