import dataclasses

import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert import convert
from tflite_export.decode import tflm_decode, tflm_insert
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.file_format import pruned_tensor
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers import mcu_verify
from tflite_export.microcontrollers.mcu_verify import (
  check_decoded,
  check_identical,
  check_same_constants,
  verify,
)
from tflite_export.runtimes import tflm


@pytest.fixture(scope="module")
def request_():
  return models.request(*models.pruned(0.1))


@pytest.fixture(scope="module")
def dense():
  return models.converted("int8_dense", 0.1)


class TestVerify:
  def test_masked_weight_that_is_not_zero(self, request_, dense):
    masks = dict(request_.masks)
    kept = np.flatnonzero(masks["expand"])
    masks["expand"] = masks["expand"].copy()
    masks["expand"].flat[kept[:3]] = False
    with pytest.raises(
      VerificationError, match=r"^mcu/model_dense\.tflite: .*'expand': 3 of \d+"
    ):
      verify(dataclasses.replace(request_, masks=masks), dense)

  def test_encoder_that_changes_a_weight(self, request_, dense, monkeypatch):
    pack = pruned_tensor.pack_pruned

    def damaged(values, zeros):
      packed = pack(values, zeros)
      return dataclasses.replace(packed, ancillary=packed.ancillary[:-1] + b"\x7f")

    monkeypatch.setattr(tflm_decode, "pack_pruned", damaged)
    with pytest.raises(VerificationError, match=r"^mcu/model\.tflite: .*differ"):
      verify(request_, dense)

  def test_encoder_whose_file_does_not_load(self, request_, dense, monkeypatch):
    monkeypatch.setattr(tflm_insert, "DECODE_OPERATOR", "UNHEARD_OF")
    with pytest.raises(VerificationError, match=r"^mcu/model\.tflite: .*code CUSTOM"):
      verify(request_, dense)

  def test_converter_that_loses_the_mask(self, request_):
    unpruned = models.converted("int8_dense", 1.0)
    with pytest.raises(VerificationError, match="masked weights"):
      verify(request_, unpruned)

  def test_dense_file_that_tflm_does_not_load(self, request_):
    sparse = models.converted("int8_sparse", 0.1)
    with pytest.raises(
      VerificationError, match=r"^mcu/model_dense\.tflite: TFLM cannot load .*DENSIFY"
    ):
      verify(request_, sparse)

  def test_decode_kernel_that_computes_something_else(
    self, request_, dense, monkeypatch
  ):
    runs = iter((0, 0, 1))
    run = tflm.run

    def off_by_one(model_bytes, inputs):
      result = run(model_bytes, inputs)
      outputs = result.stored_outputs + np.int8(next(runs))
      return dataclasses.replace(result, stored_outputs=outputs)

    monkeypatch.setattr(tflm, "run", off_by_one)
    with pytest.raises(
      VerificationError, match=r"^mcu/model\.tflite: .*differs .* on 32 of 32 inputs"
    ):
      verify(request_, dense)

  def test_shrinking_that_changes_an_output(self, request_, dense, monkeypatch):
    unrelated = models.converted("int8_dense", 0.2)
    monkeypatch.setattr(mcu_verify, "shrink", lambda *_: shrink(unrelated))
    with pytest.raises(
      VerificationError, match=r"^mcu/model_dense\.tflite: it differs .* inputs"
    ):
      verify(request_, dense)

  def test_kept_names(self, request_, dense):
    kept = verify(dataclasses.replace(request_, mcu=McuOptions(keep_names=True)), dense)
    assert kept.dense_bytes == dense
    assert b"small_classifier" in kept.encoded.model_bytes
    without = verify(request_, dense)
    assert without.dense_bytes == dense
    assert b"small_classifier" not in without.encoded.model_bytes
    assert len(without.encoded.model_bytes) < len(kept.encoded.model_bytes)
    names = [[each.name for each in one.encoded.tensors] for one in (kept, without)]
    assert names[0] == names[1]
    assert without.shrunk_size_bytes < kept.shrunk_size_bytes < len(dense)

  def test_data_that_do_not_fit_are_the_users_error(self, request_, dense):
    inputs = np.zeros((1, 8, 8, 3), np.float32)
    with pytest.raises(InputError, match="evaluation inputs have shape"):
      verify(dataclasses.replace(request_, evaluation_inputs=inputs), dense)

  def test_where_decoding_saves_nothing_the_file_is_only_shrunk(self):
    dense = models.converted("int8_dense", 1.0)
    verified = verify(models.request(*models.pruned(1.0)), dense)
    assert verified.encoded.model_bytes == shrink(dense).model_bytes
    assert len(verified.encoded.model_bytes) == verified.shrunk_size_bytes
    assert verified.arena == verified.dense_arena
    # Quantisation rounds a few small weights to zero.
    assert 0.98 < verified.density < 1


class TestCheckIdentical:
  def test_equal(self):
    check_identical(np.array([[1, 2]], np.int8), np.array([[1, 2]], np.int8))

  def test_counts_rows_and_the_largest_difference(self):
    dense = np.array([[1, 2], [-128, 0], [5, 5]], np.int8)
    other = np.array([[1, 2], [127, 0], [5, 6]], np.int8)
    with pytest.raises(VerificationError, match="2 of 3 inputs, by up to 255"):
      check_identical(dense, other)

  def test_shapes(self):
    with pytest.raises(VerificationError, match=r"\[2, 1\], before they were \[1, 2\]"):
      check_identical(np.zeros((1, 2), np.int8), np.zeros((2, 1), np.int8))


class TestCheckSameConstants:
  def test_says_which_tensor_changed(self, dense):
    shrunk = shrink(dense)
    check_same_constants(dense, shrunk)
    model = read_model(shrunk.model_bytes)
    (at,) = (
      index
      for index, tensor in enumerate(model.subgraphs[0].tensors)
      if list(tensor.shape) == [32, 1, 1, 16]
    )
    data = model.buffers[model.subgraphs[0].tensors[at].buffer].data.copy()
    data[7] ^= 1
    model.buffers[model.subgraphs[0].tensors[at].buffer].data = data
    changed = dataclasses.replace(shrunk, model_bytes=write_compact(model))
    with pytest.raises(VerificationError, match=r"'small_classifier/expand/.* is not"):
      check_same_constants(dense, changed)

  def test_shape(self, dense):
    shrunk = shrink(dense)
    model = read_model(shrunk.model_bytes)
    model.subgraphs[0].tensors[0].shape = [1, 3, 16, 16]
    changed = dataclasses.replace(shrunk, model_bytes=write_compact(model))
    with pytest.raises(VerificationError, match="before shrinking"):
      check_same_constants(dense, changed)


class TestCheckDecoded:
  def test_counts_values_that_differ(self, request_, dense):
    encoded = encode_pruned(dense)
    check_decoded(dense, encoded)
    other = models.small_classifier(seed=1)
    models.prune(other, 0.1, seed=5)
    unrelated = convert(other, "int8_dense", request_.calibration)
    with pytest.raises(
      VerificationError, match=r"\d+ of 512 values differ after DECODE"
    ):
      check_decoded(unrelated, encoded)
