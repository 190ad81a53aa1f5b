"""A message is read if it is the very one that is awaited, and refused otherwise."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.devices import device_messages
from fedtiny_tff.devices.device_messages import Envelope, TensorLayout
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.support import quick
from tests.tflite_export.processes import loaded_by

ENVELOPE = Envelope("update", "a1b2", 3, 7)
TENSORS: dict[str, np.ndarray] = {
  "values": np.array([1.0, -2.0, np.inf], np.float32),
  "positions": np.array([7, 255], np.uint8),
  "counts": np.zeros([0], np.int32),
  "moments": np.array([[1e-300, 2.0]]),
}
LAYOUTS = {name: device_messages.layout_of(array) for name, array in TENSORS.items()}


def message() -> bytes:
  return device_messages.write(ENVELOPE, TENSORS)


def read(content, envelope=ENVELOPE, layouts=LAYOUTS):
  return device_messages.read(content, envelope, layouts)


def test_what_is_written_is_read():
  found = read(message())
  assert found.keys() == TENSORS.keys()
  for name, array in TENSORS.items():
    np.testing.assert_array_equal(found[name], array)
    assert found[name].dtype == array.dtype


def test_the_same_message_is_the_same_bytes():
  turned = dict(reversed(TENSORS.items()))
  assert device_messages.write(ENVELOPE, turned) == message()


@pytest.mark.parametrize(
  ("changes", "text"),
  [
    ({"round_index": 4}, "its round is '3', expected '4'"),
    ({"plan": "ffff"}, "its plan is 'a1b2', expected 'ffff'"),
    ({"kind": "score"}, "its kind is 'update', expected 'score'"),
    ({"client": 8}, "its client is '7', expected '8'"),
    ({"client": None}, "its client is '7', expected 'none'"),
  ],
)
def test_another_message_is_refused(changes, text):
  with pytest.raises(InputError, match=text):
    read(message(), dataclasses.replace(ENVELOPE, **changes))


@pytest.mark.parametrize(
  ("changes", "text"),
  [
    (
      {"values": TensorLayout("float32", (4,))},
      r"values is float32\[3\], expected is f",
    ),
    ({"values": TensorLayout("int32", (3,))}, r"values is float32\[3\], expected is i"),
    ({"more": TensorLayout("int32", (3,))}, "expected are .*more"),
  ],
)
def test_other_tensors_are_refused(changes, text):
  with pytest.raises(InputError, match=text):
    read(message(), layouts={**LAYOUTS, **changes})


def test_too_many_bytes_are_refused_before_they_are_parsed():
  with pytest.raises(InputError, match="at most"):
    read(message() + bytes(device_messages.largest_bytes(LAYOUTS)))


def test_another_version_is_refused(monkeypatch):
  monkeypatch.setattr(device_messages, "FORMAT_VERSION", "2")
  newer = message()
  monkeypatch.undo()
  with pytest.raises(InputError, match="its version is '2', expected '1'"):
    read(newer)


@quick
@given(st.data())
def test_cut_or_lengthened_is_refused(data):
  content = message()
  end = data.draw(st.integers(0, len(content) - 1))
  more = data.draw(st.binary(min_size=1, max_size=9))
  for changed in (content[:end], content + more):
    with pytest.raises(InputError, match="update message of client 7 for round 3"):
      read(changed)


@quick
@given(st.data())
def test_an_altered_byte_is_noticed(data):
  content = bytearray(message())
  place = data.draw(st.integers(0, len(content) - 1))
  content[place] ^= data.draw(st.integers(1, 255))
  try:
    found = read(bytes(content))
  except InputError:
    return
  # Spaces that fill up the header say nothing.
  for name, array in TENSORS.items():
    np.testing.assert_array_equal(found[name], array)


@quick
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content):
  with pytest.raises(InputError):
    read(content)


@pytest.mark.parametrize("metadata", ["null", "{}", '{"envelope": "null"}'])
def test_a_file_that_says_nothing_of_itself_is_refused(metadata):
  header = f'{{"__metadata__": {metadata}}}'.encode()
  with pytest.raises(InputError, match="update message of client 7 for round 3"):
    read(len(header).to_bytes(8, "little") + header)


def test_a_file_of_others_is_refused():
  with pytest.raises(InputError, match="its version is 'missing'"):
    read(safetensors.numpy.save(TENSORS))


@pytest.mark.parametrize("changes", [{"round_index": -1}, {"client": -1}])
def test_negative_numbers_are_refused(changes):
  with pytest.raises(ValueError, match="at least 0, got -1"):
    dataclasses.replace(ENVELOPE, **changes)


def test_needs_no_tensorflow():
  modules = ("fedtiny_tff.devices.device_messages", "fedtiny_tff.devices.philox")
  assert loaded_by(modules, ("tensorflow",)) == []
