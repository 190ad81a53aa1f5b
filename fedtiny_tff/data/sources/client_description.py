"""Reads `dataset.json` beside clients' TFRecord files, and trusts nothing in it."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NoReturn, Optional

from fedtiny_tff.data.examples import SPLITS, TEST, TRAIN
from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import texts
from fedtiny_tff.errors import InputError

FILE_NAME = "dataset.json"
_MOST_BYTES = 16 << 20
_MOST_AXES = 4
_MOST_VALUES = 1 << 24
_MOST_CLASSES = 1 << 16
_MOST_FILES = 1 << 16


@dataclasses.dataclass(frozen=True)
class ClientDescription:
  """What a folder of clients' records holds.

  Attributes:
    shape: Shape of one example's features.
    class_names: One per label.
    files: Of each split, in order; none for a split that is absent.
    preprocessing: As far as it is said; None = nothing is.
    is_measured: Whether mean and deviation are among it.
  """

  shape: tuple[int, ...]
  class_names: tuple[str, ...]
  files: Mapping[str, tuple[pathlib.Path, ...]]
  preprocessing: Optional[Preprocessing]
  is_measured: bool


def read(folder: pathlib.Path) -> ClientDescription:
  """Reads and checks a folder's `dataset.json`.

  Args:
    folder: Holds it and the files that it names.

  Raises:
    InputError: Naming the key that is wrong.
  """
  path = folder / FILE_NAME
  shown = texts.one_line(str(path))
  try:
    document = _parsed(_content(path))
    _check_keys(document, "it", {"shape", "classes", "splits"}, {"preprocessing"})
    shape = _shape(document["shape"])
    preprocessing, is_measured = _preprocessing(document.get("preprocessing"), shape)
    return ClientDescription(
      shape,
      _class_names(document["classes"]),
      _files(folder, document["splits"]),
      preprocessing,
      is_measured,
    )
  except InputError as error:
    raise InputError(f"{shown}: {error}") from error


def _content(path: pathlib.Path) -> str:
  try:
    with path.open("rb") as file:
      content = file.read(_MOST_BYTES + 1)
  except OSError as error:
    raise InputError(f"cannot be read: {error.strerror}; check --data_dir") from error
  if len(content) > _MOST_BYTES:
    raise InputError(f"is larger than {_MOST_BYTES >> 20} MiB; shorten it")
  try:
    return content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise InputError("is not UTF-8; save it as such") from error


def _parsed(content: str) -> Any:
  """Reads JSON in which no key stands twice and every number is one."""

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
      names = [name for name, _ in pairs]
      twice = next(name for name in names if names.count(name) > 1)
      raise InputError(f"has {texts.value(twice)} twice in one object; keep one")
    return found

  def no_number(name: str) -> NoReturn:
    raise InputError(f"holds {name}, which is no number of JSON; write one")

  try:
    return json.loads(content, object_pairs_hook=unique, parse_constant=no_number)
  except RecursionError as error:
    raise InputError(
      "is nested too deeply; write it as docs/own_data.md shows"
    ) from error
  except json.JSONDecodeError as error:
    raise InputError(
      f"is no JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
      "mend it there"
    ) from error
  except InputError:
    raise
  except ValueError as error:  # An integer of thousands of digits.
    raise InputError("holds a number that is too long; write a shorter one") from error


def _check_keys(
  document: Any, name: str, required: set[str], optional: set[str]
) -> None:
  if not isinstance(document, dict):
    raise InputError(f"{name} must be an object, got {texts.value(document)}")
  for key in sorted(required - set(document)):
    raise InputError(f"{name} has no {key!r}; add it")
  for key in document:
    if key not in required | optional:
      raise InputError(
        f"{name} has the unknown key {texts.value(key)}; known are "
        f"{', '.join(sorted(required | optional))}"
      )


def _shape(value: Any) -> tuple[int, ...]:
  if not (
    isinstance(value, list)
    and 1 <= len(value) <= _MOST_AXES
    and all(type(size) is int and size > 0 for size in value)
  ):
    raise InputError(
      f"shape must be a list of 1 to {_MOST_AXES} positive whole numbers, got "
      f"{texts.value(value)}"
    )
  if math.prod(value) > _MOST_VALUES:
    raise InputError(
      f"shape must have at most {_MOST_VALUES:,} values, got {texts.value(value)}"
    )
  return tuple(value)


def _class_names(value: Any) -> tuple[str, ...]:
  if not isinstance(value, list) or not 2 <= len(value) <= _MOST_CLASSES:
    raise InputError(
      f"classes must be a list of 2 to {_MOST_CLASSES:,} names, got "
      f"{texts.value(value)}"
    )
  seen: set[str] = set()
  for name in value:
    problem = texts.problem_of_name(name)
    if problem is not None:
      raise InputError(f"classes: a name {problem}")
    if name in seen:
      raise InputError(f"classes has {texts.value(name)} twice; name it once")
    seen.add(name)
  return tuple(value)


def _files(folder: pathlib.Path, value: Any) -> dict[str, tuple[pathlib.Path, ...]]:
  _check_keys(value, "splits", {TRAIN}, {TEST})
  files: dict[str, tuple[pathlib.Path, ...]] = {}
  seen: set[pathlib.Path] = set()
  root = folder.resolve()
  for split in SPLITS:
    names = value.get(split, [])
    if not isinstance(names, list) or len(names) > _MOST_FILES:
      raise InputError(
        f"splits: {split} must be a list of file names, got {texts.value(names)}"
      )
    paths = []
    for name in names:
      path = _inside(root, name)
      if path in seen:
        raise InputError(
          f"splits: file {texts.value(name)} is named twice; name it once"
        )
      seen.add(path)
      paths.append(folder / name)
    files[split] = tuple(paths)
  if not files[TRAIN]:
    raise InputError("splits: train must name a file")
  return files


def _inside(root: pathlib.Path, name: Any) -> pathlib.Path:
  """Returns where a file really lies, which must be in the folder."""
  problem = texts.problem_of_name(name)
  if problem is not None:
    raise InputError(f"splits: a file name {problem}")
  shown = texts.value(name)
  try:
    path = pathlib.Path(os.path.realpath(root / name))
    is_file = path.is_file()
  except OSError as error:
    raise InputError(f"splits: file {shown}: {error.strerror}; name another") from error
  if not path.is_relative_to(root) or pathlib.PurePath(name).is_absolute():
    raise InputError(f"splits: file {shown} must lie in the folder of {FILE_NAME}")
  if not is_file:
    raise InputError(
      f"splits: file {shown} not found beside {FILE_NAME}; copy it there"
    )
  return path


def _preprocessing(
  value: Any, shape: tuple[int, ...]
) -> tuple[Optional[Preprocessing], bool]:
  if value is None:
    return None, False
  _check_keys(value, "preprocessing", {"scale"}, {"mean", "deviation", "extraction"})
  is_measured = "mean" in value or "deviation" in value
  if is_measured:
    _check_keys(value, "preprocessing", {"mean", "deviation"}, set(value))
  assumed = {
    "extraction": NO_EXTRACTION.to_json(), "mean": [0.0], "deviation": [1.0]
  }  # fmt: skip
  preprocessing = Preprocessing.from_json({**assumed, **value})
  if len(preprocessing.mean) not in (1, shape[-1]):
    raise InputError(
      f"preprocessing: mean must have 1 or {shape[-1]} numbers, got "
      f"{len(preprocessing.mean)}"
    )
  extraction = preprocessing.extraction
  raw_shape = extraction.raw_shape or shape
  if isinstance(extraction, Resize) and extraction.grey:
    raw_shape = (*shape[:-1], 3)
  extracted = extraction.output_shape(raw_shape)
  if tuple(extracted) != shape:
    raise InputError(
      f"preprocessing: extraction makes features of shape {list(extracted)}, but shape "
      f"is {list(shape)}; write the former"
    )
  return preprocessing, is_measured
