import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.file_format import associated_files, flatbuffer_model
from tflite_export.runtimes import litert

MODEL = b"\x1c\0\0\0TFL3" + bytes(range(256))


def deflated(content, entries=1):
  stream = io.BytesIO()
  stream.write(MODEL)
  with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
    for number in range(entries):
      archive.writestr(f"{number}.txt", content)
  return stream.getvalue()


def test_archive_is_uncompressed_behind_an_unchanged_model():
  packed = associated_files.append(MODEL, {"labels.txt": b"a\nb\n"})
  assert packed.startswith(MODEL)
  # Local header 30, directory entry 46 and end 22 bytes, besides name and content.
  assert len(packed) == len(MODEL) + 30 + 46 + 22 + 2 * len("labels.txt") + 4
  with zipfile.ZipFile(io.BytesIO(packed)) as archive:
    (entry,) = archive.infolist()
    assert archive.testzip() is None
  assert entry.compress_type == zipfile.ZIP_STORED
  # Android's reader takes offsets from the beginning of the file.
  assert entry.header_offset == len(MODEL)


def test_same_files_give_same_bytes():
  files = {"b": b"1", "a": b""}
  assert associated_files.append(MODEL, files) == associated_files.append(MODEL, files)


@given(st.dictionaries(st.text("abcü/", min_size=1), st.binary(), max_size=4))
@settings(max_examples=50, deadline=None)
def test_what_is_packed_comes_back(files):
  assert associated_files.read(associated_files.append(MODEL, files)) == files


def test_no_files_are_no_archive():
  assert associated_files.append(MODEL, {}) == MODEL
  assert associated_files.read(MODEL) == {}


def test_compressed_files_of_others_are_read():
  assert associated_files.read(deflated(b"x" * 999)) == {"0.txt": b"x" * 999}


@pytest.mark.parametrize("entries", [1, 3])
def test_more_bytes_than_labels_can_have_are_refused(entries):
  content = bytes(associated_files.MAX_BYTES // entries + 1)
  with pytest.raises(InputError, match="more than 4,194,304 bytes"):
    associated_files.read(deflated(content, entries))


def test_large_files_that_are_not_compressed_are_read():
  content = bytes(associated_files.MAX_BYTES + 1)
  packed = associated_files.append(MODEL, {"index": content})
  assert associated_files.read(packed) == {"index": content}


def test_damage_is_refused():
  packed = associated_files.append(MODEL, {"labels.txt": b"a\nb\n"})
  broken = bytearray(packed)
  broken[len(MODEL) + 40] ^= 1
  with pytest.raises(InputError, match="packed with the model are damaged"):
    associated_files.read(bytes(broken))


def test_mutated_archives_are_read_or_refused():
  packed = deflated(b"label\n" * 50, 3)
  generator = np.random.default_rng(0)
  refused = 0
  for _ in range(400):
    damaged = np.frombuffer(packed, np.uint8).copy()
    places = generator.integers(len(MODEL), len(damaged), 3)
    damaged[places] = generator.integers(0, 256, 3)
    try:
      associated_files.read(damaged.tobytes())
    except InputError as error:
      refused += 1
      assert "\n" not in str(error)
  assert refused > 100


def test_runtime_and_reader_take_a_file_with_others_behind_it():
  content = models.converted("int8_dense")
  packed = associated_files.append(content, {"labels.txt": b"a\n"})
  inputs = models.random_inputs(4)
  np.testing.assert_array_equal(litert.run(packed, inputs), litert.run(content, inputs))
  assert len(flatbuffer_model.read_model(packed).buffers) == len(
    flatbuffer_model.read_model(content).buffers
  )
