"""Images in folders: class/image or client/class/image, perhaps in train/ and test/."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Optional, Union

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.examples import Dataset, DatasetInfo
from fedtiny_tff.data.extraction import NO_EXTRACTION
from fedtiny_tff.data.extraction_base import Extraction, Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import class_folders, images, texts
from fedtiny_tff.data.sources.folder_walk import ClassFile, FileKind
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError

NAME = "image_folder"
_IMAGE = FileKind("image", "an", (".png", ".jpg", ".jpeg", ".bmp", ".gif"))


def open_image_folder(options: SourceOptions) -> Dataset:
  """Images whose folders say what they show and perhaps whose they are.

  Folders are those of `class_folders.open_folder`.

  Args:
    options: Also `image_channels`, and `image_size`, which resizes images.

  Raises:
    InputError: When the folder holds no such images.
  """
  if options.image_channels not in (1, 3):
    raise InputError(f"--image_channels must be 1 or 3, got {options.image_channels}")
  folders = class_folders.open_folder(NAME, _IMAGE, options)
  size = options.image_size or _first_size(folders.training_files)
  shape = (*size, options.image_channels)
  info = DatasetInfo(
    name=NAME,
    shape=shape,
    feature_type="uint8",
    class_names=folders.class_names,
    preprocessing=Preprocessing(
      1 / 255,
      (0.0,) * shape[-1],
      (1.0,) * shape[-1],
      _extraction(options, shape),
    ),
  )
  load = functools.partial(_load, shape, options.image_size)
  return Dataset(
    info,
    class_folders.Reader(info, folders, load).read,
    folders.listing.has_clients,
    measures_inputs=True,
    notes=folders.listing.notes,
  )


def _extraction(options: SourceOptions, shape: tuple[int, ...]) -> Extraction:
  """Returns what is made of raw images, which may have any colours."""
  if options.image_size is None and shape[-1] != 1:
    return NO_EXTRACTION
  return Resize(shape[0], shape[1], grey=shape[-1] == 1)


def _first_size(training: Sequence[ClassFile]) -> tuple[int, int]:
  """Returns height and width of the first image that can be decoded."""
  for image in training:
    found = _decoded(image.path, 3, None)
    if isinstance(found, np.ndarray):
      return found.shape[0], found.shape[1]
  raise InputError(
    f"{texts.one_line(training[0].path)}: {found}, and none of the {len(training)} "
    "training images can be decoded; save them as PNG or JPEG"
  )


def _decoded(
  path: str, channels: int, size: Optional[tuple[int, int]]
) -> Union[Array, str]:
  """Returns an image's pixels, or why it has none."""
  try:
    encoded = pathlib.Path(path).read_bytes()
    return images.decode(encoded, channels, size, makes_grey=True)
  except images.UnusableImage as error:
    return str(error)
  except OSError as error:
    return f"cannot be read: {error.strerror}"


def _load(
  shape: tuple[int, ...], size: Optional[tuple[int, int]], path: str
) -> Union[Array, str]:
  """Returns an image's pixels in the dataset's shape, or why it cannot be used."""
  found = _decoded(path, shape[-1], size)
  if isinstance(found, np.ndarray) and found.shape != shape:
    return (
      f"is {found.shape[0]}x{found.shape[1]} pixels, the first image "
      f"{shape[0]}x{shape[1]}: bring all to one size with --image_size"
    )
  return found
