"""What DECODE operators unpack, also in files that say so and hold something else."""

import numpy as np
import pytest

from tests.tflite_export.files import chain, sparse_values, written
from tests.tflite_export.one_constant import copied
from tflite_export.decode import tflm_decoded
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.file_format.flatbuffer_model import read_model


def found(content):
  model = read_model(content)
  return tflm_decoded.find(model, model.subgraphs[0])


@pytest.fixture(name="model")
def fixture_model():
  """One layer of 32 × 32 weights of which 100 are not zero."""
  values = np.zeros(1024, np.int8)
  values[:100] = np.arange(1, 101)
  layers = chain([values.reshape(32, 32)], [(1, 0)], [0])
  return read_model(encode_pruned(written(layers)).model_bytes)


def test_bytes_and_density(model):
  assert found(written(model)) == {
    0: tflm_decoded.Decoded(("PRUNING",), 16 + 128 + 100, 100 / 1024)
  }


def test_tables_have_no_density():
  # Two values, neither of them zero: a bit each.
  values = np.where(np.arange(4096) % 3, np.int8(5), np.int8(-7))
  content = encode_pruned(copied(values, [0])).model_bytes
  assert found(content) == {0: tflm_decoded.Decoded(("LUT",), 16 + 512 + 2, None)}


def test_a_dense_file_unpacks_nothing():
  assert found(written(chain([sparse_values()], [(1, 0)], [0]))) == {}


@pytest.mark.parametrize(
  ("damage", "form"),
  [
    (lambda model, operator: operator.inputs.pop(), "unknown"),
    (lambda model, operator: operator.inputs.__setitem__(1, -1), "unknown"),
    (lambda model, operator: operator.inputs.__setitem__(0, -1), "PRUNING"),
    (lambda model, operator: operator.outputs.__setitem__(0, -1), "PRUNING"),
    (
      lambda model, operator: (
        model.subgraphs[0].tensors[operator.outputs[0]].__setattr__("shape", [-32, -32])
      ),
      "PRUNING",
    ),
    (
      lambda model, operator: (
        model.subgraphs[0].tensors[operator.outputs[0]].__setattr__("shape", [0, 32])
      ),
      "PRUNING",
    ),
  ],
)
def test_what_does_not_fit_has_no_density(model, damage, form):
  damage(model, model.subgraphs[0].operators[0])
  decoded = found(written(model))[0]
  assert (decoded.forms, decoded.density) == ((form,), None)


def test_an_unknown_form(model):
  operator = model.subgraphs[0].operators[0]
  buffer = model.buffers[model.subgraphs[0].tensors[operator.inputs[1]].buffer]
  buffer.data = np.array([200, *buffer.data[1:]], np.uint8)
  assert found(written(model))[0].forms == ("unknown",)
