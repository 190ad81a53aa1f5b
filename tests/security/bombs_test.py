"""A few bytes that declare gigabytes are refused before anything is decoded."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from fedtiny_tff.data.sources import (
  client_keys,
  encoded_images,
  example_fields,
  images,
)
from fedtiny_tff.data.sources.batch_decoding import UnusableRecord
from fedtiny_tff.data.sources.encoded_images import ImageForm
from tests.fedtiny_tff.data.sources import records

_FORM = ImageForm(8, 8, 3)
_RESIZING = ImageForm(8, 8, 3, resize=True)


def _chunk(kind, content):
  check = struct.pack(">I", zlib.crc32(kind + content))
  return struct.pack(">I", len(content)) + kind + content + check


def _png(height, width):
  """Returns a whole black image; a thousandth of its pixels in bytes."""
  packed = zlib.compress(bytes(height * (1 + width)))
  header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
  return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _gif(height, width, pictures):
  """Returns an animation of pictures that have no pixels yet."""
  size = struct.pack("<HH", width, height)
  extension = b"\x21\xf9\x04\0\0\0\0\0"
  picture = b"," + bytes(4) + size + b"\x80" + bytes(6) + b"\x02" + b"\x01\x05\0"
  head = b"GIF89a" + size + b"\x91\0\0" + bytes(12)
  return head + (extension + picture) * pictures + b";"


def _drawn_gif(side, pictures):
  """Returns an animation of pictures that can be decoded."""
  # Different ones: equal neighbours become one.
  drawn = [PIL.Image.new("P", (side, side), color) for color in range(pictures)]
  file = io.BytesIO()
  drawn[0].save(file, "gif", save_all=True, append_images=drawn[1:])
  return file.getvalue()


def _jpeg(height, width):
  return tf.io.encode_jpeg(np.zeros((height, width, 3), np.uint8)).numpy()


@pytest.mark.parametrize("make", [_png, _jpeg])
@pytest.mark.parametrize(
  ("form", "height", "width", "is_decoded"),
  [
    (_FORM, 8, 8, True),
    (_FORM, 9, 8, False),
    (_RESIZING, 400, 300, True),
    (_RESIZING, 4097, 4096, False),
  ],
)
def test_batches_decode_what_is_modest(make, form, height, width, is_decoded):
  good = records.png(np.zeros((8, 8, 3), np.uint8))
  batch = tf.constant([good, make(height, width)])
  if is_decoded:
    assert encoded_images.decoder(form)(batch).shape == (2, 8, 8, 3)
    return
  with pytest.raises(tf.errors.InvalidArgumentError, match="too large"):
    encoded_images.decoder(form)(batch)


@pytest.mark.parametrize(
  "content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a"]
)
def test_batches_leave_the_rest_to_a_closer_look(content):
  # TensorFlow's message may quote the bytes.
  with pytest.raises((tf.errors.OpError, UnicodeDecodeError)):
    encoded_images.decoder(_FORM)(tf.constant([content]))


def test_a_large_picture_is_still_read_by_itself():
  assert images.decode(_png(4097, 4096), 3).shape == (4097, 4096, 3)


@pytest.mark.parametrize(
  ("content", "said"),
  [
    (_png(8193, 8192), "is of 8193×8192 pixels"),
    (_gif(8193, 8192, 1), "is of 8193×8192 pixels"),
    (_gif(8192, 8192, 2), "is an animation of more than 67,108,864 pixels"),
    (_gif(1024, 1024, 65), "is an animation of more than 67,108,864 pixels"),
  ],
)
def test_what_would_fill_the_memory(content, said):
  assert len(content) < 100_000
  with pytest.raises(images.UnusableImage, match=said):
    images.decode(content, 3)


def test_an_animation_within_limits_is_judged_by_its_pixels():
  assert images.decode(_drawn_gif(1024, 3), 3).shape == (1024, 1024, 3)


def _lying_record():
  """Returns a record whose picture states 2.4 GB, in a field of the right length."""
  record = records.example(client_id=b"bo", label=1, image=b"x" * 60)
  start = record.index(b"x" * 60)
  return record[: start - 1] + b"\xd8\xd8\xf1\x8e\x09" + record[start + 4 :]


def test_a_record_that_states_more_than_it_has():
  fields = {"image": tf.io.FixedLenFeature([], tf.string)}
  with pytest.raises(tf.errors.InvalidArgumentError, match="a bad record"):
    example_fields.parse_many(tf.constant([_lying_record()]), fields)
  with pytest.raises(UnusableRecord, match=r"is no tf\.train\.Example"):
    example_fields.parse_one(_lying_record(), fields)


def test_good_records_are_parsed_as_ever():
  record = records.example(client_id=b"bo", label=1, image=b"x")
  found = example_fields.parse_many(tf.constant([record] * 2), client_keys.FIELDS)
  assert found["label"].numpy().tolist() == [1, 1]
  assert found["client_id"].numpy().tolist() == [b"bo"] * 2


@pytest.mark.slow
def test_tensorflow_alone_would_end_the_process():
  program = (
    "import tensorflow as tf; fields = {'image': tf.io.FixedLenFeature([], tf.string)}\n"
    f"tf.io.parse_example(tf.constant([{_lying_record()!r}]), fields)"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, timeout=300, check=False
  )
  assert done.returncode < 0
