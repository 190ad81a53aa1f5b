"""A device's file of examples comes back as it was; anything else is one line."""

import hypothesis
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from pipelines.devices import device_examples
from tests.fedtiny_tff.support import quick
from tflite_export.device_training.device_runtime import DeviceExamples


def arrays(**changes):
  return {
    "training_inputs": np.ones((3, 2), np.float32),
    "training_labels": np.array([0, 1, 2], np.int64),
    "held_out_inputs": np.zeros((0, 2), np.float32),
    "held_out_labels": np.zeros(0, np.int32),
  } | changes


def test_what_is_written_is_read(tmp_path):
  inputs = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 2, 3)[:, :, ::2]
  made = device_examples.OwnExamples(
    DeviceExamples(inputs, np.array([3, 0, 1, 2])),
    DeviceExamples(inputs[:1], np.array([9])),
  )
  path = tmp_path / device_examples.file_name(3)
  assert path.name == "client_000003.safetensors"
  device_examples.write(path, made)
  found = device_examples.read(str(path))
  for part, wanted in zip(found, made, strict=True):
    np.testing.assert_array_equal(part.inputs, wanted.inputs)
    np.testing.assert_array_equal(part.labels, wanted.labels)
    assert part.labels.dtype == np.int32


def test_empty_parts_and_long_labels_are_good(tmp_path):
  path = tmp_path / "data"
  path.write_bytes(safetensors.numpy.save(arrays()))
  found = device_examples.read(str(path))
  assert (len(found.training), len(found.held_out)) == (3, 0)
  assert found.training.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"more": np.zeros(1)}, "holds held_out_inputs, held_out_labels, more"),
    ({"training_inputs": np.ones((3, 2))}, r"training_inputs are float64 \[3, 2\]"),
    ({"training_inputs": np.ones(3, np.float32)}, r"training_inputs are float32 \[3\]"),
    ({"training_labels": np.zeros(2, np.int32)}, r"training_labels are int32 \[2\]"),
    ({"training_labels": np.zeros(3, np.uint8)}, r"training_labels are uint8 \[3\]"),
    ({"training_labels": np.array([0, -1, 1])}, "training_labels go from -1 to 1"),
    ({"training_labels": np.array([0, 2**31, 1])}, "training_labels go from 0 to 2147"),
    (
      {"training_inputs": np.array([[0, 1], [np.nan, 0], [0, 0]], np.float32)},
      "training_inputs: example 1 has a value that is no number",
    ),
  ],
)
def test_other_tensors_are_refused(tmp_path, changes, said):
  path = tmp_path / "data"
  path.write_bytes(safetensors.numpy.save(arrays(**changes)))
  with pytest.raises(InputError, match=said) as refused:
    device_examples.read(str(path))
  assert str(refused.value).startswith(f"--data={path}: ")


@pytest.mark.parametrize("name", [None, "", "/no/such/file", "/", "/dev/null"])
def test_no_file_is_one_line(name):
  with pytest.raises(InputError, match="--data"):
    device_examples.read(name)


@quick
@hypothesis.given(st.data())
def test_a_damaged_file_is_an_error_or_whole(tmp_path_factory, data):
  content = bytearray(safetensors.numpy.save(arrays()))
  place = data.draw(st.integers(0, len(content) - 1))
  content[place] ^= data.draw(st.integers(1, 255))
  path = tmp_path_factory.mktemp("damaged") / "data"
  path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
  try:
    found = device_examples.read(str(path))
  except InputError as error:
    assert str(error).startswith("--data=")
  else:
    assert found.training.inputs.dtype == np.float32
