"""Folders of small images, and what is read of them."""

import numpy as np
import tensorflow as tf

from fedtiny_tff.data import examples
from fedtiny_tff.data.sources import image_folder
from fedtiny_tff.data.sources.options import SourceOptions


def write(path, value=0, size=(2, 3)):
  """Writes a grey image of one value, with the folders that lead to it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full([*size, 1], value, np.uint8)
  path.write_bytes(tf.io.encode_png(pixels).numpy())


def opened(folder, **options):
  """Opens a folder of grey images."""
  return image_folder.open_image_folder(
    SourceOptions(data_dir=str(folder), image_channels=1, **options)
  )


def read(dataset, split="train"):
  """Returns first pixels, labels, clients and what was bad."""
  bad: list[examples.BadRecord] = []
  batches = list(dataset.read(split, bad.append))
  pixels = [int(image[0, 0, 0]) for batch in batches for image in batch.features]
  labels = [int(label) for batch in batches for label in batch.labels]
  clients = [str(c) for b in batches if b.clients is not None for c in b.clients]
  return pixels, labels, clients, [str(record) for record in bad]


def two_classes(folder):
  """Writes a cat, 10, and a dog, 20."""
  write(folder / "cat" / "1.png", 10)
  write(folder / "dog" / "1.png", 20)
