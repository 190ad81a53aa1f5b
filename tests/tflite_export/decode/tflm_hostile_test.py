"""Hostile files: what is made of them is refused, or a file that can be read again."""

import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.field_edits import edit
from tests.tflite_export.files import chain, sparse_values, written
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.file_format.flatbuffer_model import read_model


@pytest.fixture(scope="module")
def sparse_file():
  return models.converted("int8_dense", 0.1)


class TestDamagedFiles:
  @pytest.mark.parametrize("length", [0, 4, 8, 20, 100])
  def test_truncated(self, sparse_file, length):
    with pytest.raises(InputError) as raised:
      encode_pruned(sparse_file[:length])
    assert "\n" not in str(raised.value)

  def test_every_truncation_is_refused_or_read(self, sparse_file):
    for length in range(0, len(sparse_file), 97):
      with pytest.raises(InputError):
        encode_pruned(sparse_file[:length])

  @pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
  def test_mutations_never_crash(self, sparse_file, count):
    files = [
      sparse_file,
      shrink(sparse_file).model_bytes,
      encode_pruned(sparse_file).model_bytes,
      models.converted("fp32_dense", 0.1),
    ]
    for number, content in enumerate(files):
      # Some damage is to weights, or to what nothing checks.
      assert 0.02 < _surviving_mutations(content, count, seed=number) / count < 0.8

  def test_edited_fields_never_crash(self, sparse_file):
    generator = np.random.default_rng(0)
    results = set()
    for _ in range(100):
      model = read_model(sparse_file)
      for _ in range(generator.integers(1, 6)):
        edit(model, generator)
      results.add(_survives(written(model)))
    assert results == {True, False}

  def test_random_bytes(self):
    generator = np.random.default_rng(1)
    for _ in range(200):
      noise = bytearray(generator.bytes(int(generator.integers(8, 500))))
      noise[4:8] = b"TFL3"
      with pytest.raises(InputError):
        encode_pruned(bytes(noise))
      with pytest.raises(InputError):
        shrink(bytes(noise))

  @pytest.mark.parametrize(
    "shape", [[2**31 - 1] * 4, [-1, -1024], [0, 1024], [1024], [], [1] * 3000]
  )
  def test_absurd_shapes(self, shape):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].tensors[0].shape = shape
    dense = written(model)
    shrink(dense)
    try:
      assert len(encode_pruned(dense).model_bytes) <= len(dense)
    except InputError as error:
      assert "1024 bytes of data" in str(error)

  def test_many_operators_take_no_quadratic_time(self):
    layers = 1_500
    model = chain([sparse_values()], [(1, 0)] * layers, range(layers))
    encoded = encode_pruned(shrink(written(model)).model_bytes)
    assert not encoded.tensors[0].encoded

  def test_absurd_channels(self):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].tensors[0].quantization.scale = [0.1] * 100_000
    dense = written(model)
    assert not encode_pruned(dense).tensors[0].encoded
    shrink(dense)


def _surviving_mutations(content, count, seed):
  """Returns how many of `count` files with damaged bytes are read as models."""
  generator = np.random.default_rng(seed)
  survivors = 0
  for _ in range(count):
    mutated = bytearray(content)
    for at in generator.integers(0, len(mutated), generator.integers(1, 30)):
      mutated[at] = generator.choice([0, 1, 127, 128, 255, generator.integers(256)])
    survivors += _survives(bytes(mutated))
  return survivors


def _survives(content):
  """Shrinks and encodes a file; returns whether it is read as a model.

  What is read must come out smaller or as it was, and readable again.
  """
  try:
    shrunk = shrink(content).model_bytes
    encoded = encode_pruned(shrunk).model_bytes
  except InputError as error:
    assert "\n" not in str(error)
    return False
  assert len(encoded) <= len(shrunk) <= len(content)
  read_model(encoded)
  return True
