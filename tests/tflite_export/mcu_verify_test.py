import dataclasses

import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export import tflm, tflm_decode, tflm_insert
from tflite_export.artifacts import VerificationError
from tflite_export.convert import convert
from tflite_export.mcu_verify import check_decoded, check_identical, verify
from tflite_export.tflm_decode import encode_pruned


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
    pack = tflm_decode.pack_pruned

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
    runs = iter((0, 1))
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

  def test_data_that_do_not_fit_are_the_users_error(self, request_, dense):
    inputs = np.zeros((1, 8, 8, 3), np.float32)
    with pytest.raises(InputError, match="evaluation inputs have shape"):
      verify(dataclasses.replace(request_, evaluation_inputs=inputs), dense)

  def test_decoding_that_saves_nothing_gives_two_equal_files(self):
    dense = models.converted("int8_dense", 1.0)
    verified = verify(models.request(*models.pruned(1.0)), dense)
    assert verified.encoded.model_bytes == dense
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
    with pytest.raises(VerificationError, match=r"\[2, 1\], the dense file's \[1, 2\]"):
      check_identical(np.zeros((1, 2), np.int8), np.zeros((2, 1), np.int8))


class TestCheckDecoded:
  def test_counts_values_that_differ(self, request_, dense):
    encoded = encode_pruned(dense)
    check_decoded(dense, encoded)
    other = models.small_classifier(seed=1)
    models.prune(other, 0.1, seed=5)
    unrelated = convert(other, "int8_dense", request_.calibration_inputs)
    with pytest.raises(
      VerificationError, match=r"\d+ of 512 values differ after DECODE"
    ):
      check_decoded(unrelated, encoded)
