"""Tests of the export for microcontrollers."""

import dataclasses
import re

import numpy as np
import pytest

from tests.tflite_export import models
from tests.tflite_export.c_source_test import compile_cpp, resolver_stand_in, write
from tflite_export import c_source, mcu, tflm, tflm_decode, weights
from tflite_export.artifacts import VerificationError
from tflite_export.convert import convert
from tflite_export.tflm_decode import encode_pruned

# A stand-in, NOT TFLM's header: just enough for the compiler to check the README.
INTERPRETER_STAND_IN = """
#include <cstddef>
#include <cstdint>
namespace tflite {
struct Model {};
inline const Model* GetModel(const void*) { return nullptr; }
class MicroInterpreter {
 public:
  template <typename Resolver>
  MicroInterpreter(const Model*, const Resolver&, uint8_t*, size_t) {}
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
};
}  // namespace tflite
"""


def request_at(density):
  model = models.small_classifier()
  return models.request(model, models.prune(model, density))


@pytest.fixture(scope="module")
def request_():
  return request_at(0.1)


@pytest.fixture(scope="module")
def bundle(request_):
  return mcu.export_mcu(request_)


class TestExportMcu:
  def test_files(self, bundle):
    assert set(bundle.files) == {
      "mcu/README.md",
      "mcu/arena.h",
      "mcu/model.tflite",
      "mcu/model_data.cc",
      "mcu/model_data.h",
      "mcu/model_dense.tflite",
      "mcu/model_settings.h",
      "mcu/op_resolver.h",
    }

  def test_one_artifact_a_model(self, bundle):
    sparse, dense = bundle.artifacts
    assert (sparse.path, sparse.format) == ("mcu/model.tflite", "int8_decode")
    assert (dense.path, dense.format) == ("mcu/model_dense.tflite", "int8_dense")
    for artifact in bundle.artifacts:
      assert artifact.target == "mcu"
      assert artifact.bytes == len(bundle.files[artifact.path])
      assert artifact.dense_bytes == dense.bytes
      assert artifact.runtime == tflm.runtime_name()
      assert artifact.density == pytest.approx(0.1, abs=0.01)
    assert sparse.bytes < dense.bytes
    assert sparse.arena_bytes > dense.arena_bytes

  def test_figures_are_the_files(self, bundle, request_):
    outputs = tflm.run(
      bundle.files["mcu/model.tflite"], request_.evaluation_inputs
    ).outputs
    expected = request_.model(request_.evaluation_inputs, training=False).numpy()
    agreement = np.mean(outputs.argmax(1) == expected.argmax(1))
    for artifact in bundle.artifacts:
      assert artifact.argmax_agreement == agreement
      assert artifact.accuracy == agreement
      assert artifact.max_abs_error == pytest.approx(np.abs(outputs - expected).max())

  def test_no_accuracy_without_labels(self, request_):
    unlabelled = dataclasses.replace(request_, evaluation_labels=None)
    bundle = mcu.export_mcu(unlabelled)
    assert bundle.artifacts[0].accuracy is None
    assert b"not known (no labels)" in bundle.files["mcu/README.md"]

  def test_same_bytes_each_time(self, bundle, request_):
    assert mcu.export_mcu(request_) == bundle

  def test_sources_are_of_the_sparse_file_and_its_arena(self, bundle):
    sparse = bundle.artifacts[0]
    sources = c_source.c_sources(
      bundle.files[sparse.path],
      tuple(f"class {index}" for index in range(models.NUM_CLASSES)),
      sparse.arena_bytes,
    )
    for name, text in sources.items():
      assert bundle.files[f"mcu/{name}"] == text.encode()


class TestReadme:
  def test_says_what_firmware_costs(self, bundle):
    text = bundle.files["mcu/README.md"].decode()
    sparse, dense = bundle.artifacts
    assert f"| {sparse.bytes} | {dense.bytes} |" in text
    assert f"| {sparse.arena_bytes} | {dense.arena_bytes} |" in text
    assert f"saves {dense.bytes - sparse.bytes} bytes of flash" in text
    assert "operators: Add, Conv2D, Decode, DepthwiseConv2D" in text
    assert "type PRUNING of operator DECODE" in text

  def test_a_row_for_each_tensor(self, bundle):
    text = bundle.files["mcu/README.md"].decode()
    assert "small_classifier/expand/Conv2D | 512 | 131 |  |" in text
    assert len(re.findall(r"^\| small_classifier/", text, re.MULTILINE)) == 16

  def test_names_cannot_break_the_table(self):
    report = tflm_decode.TensorReport("a|b\nc", 0, 1, 64, 64, "why")
    assert mcu._tensor_row(report) == "| a\\|b c | 64 | 64 | why |"

  def test_program_compiles(self, bundle, tmp_path):
    text = bundle.files["mcu/README.md"].decode()
    (program,) = re.findall(r"```cpp\n(.*?)```", text, re.DOTALL)
    functions = c_source.resolver_functions(bundle.files["mcu/model.tflite"])
    folder = "tensorflow/lite/micro/"
    write(
      tmp_path,
      {
        **{
          name[4:]: each.decode()
          for name, each in bundle.files.items()
          if name.endswith(".h")
        },
        "main.cc": program,
        f"{folder}micro_mutable_op_resolver.h": resolver_stand_in(functions),
        f"{folder}micro_interpreter.h": INTERPRETER_STAND_IN,
      },
    )
    compile_cpp(tmp_path, "-std=c++11", "-fsyntax-only", "main.cc")


class TestNothingToGain:
  def test_file_equals_the_dense_one_and_the_readme_says_so(self):
    bundle = mcu.export_mcu(request_at(1.0))
    assert bundle.files["mcu/model.tflite"] == bundle.files["mcu/model_dense.tflite"]
    sparse, dense = bundle.artifacts
    assert (sparse.bytes, sparse.arena_bytes) == (dense.bytes, dense.arena_bytes)
    text = bundle.files["mcu/README.md"].decode()
    assert "both are equal" in text
    assert "DECODE" not in text.split("## Tensors")[0]
    assert "PRUNING" not in text
    assert b"AddDecode" not in bundle.files["mcu/op_resolver.h"]


class TestRefused:
  def test_masked_weight_that_is_not_zero(self, request_):
    masks = dict(request_.masks)
    kept = np.flatnonzero(masks["expand"])
    masks["expand"] = masks["expand"].copy()
    masks["expand"].flat[kept[:3]] = False
    with pytest.raises(
      VerificationError, match=r"^mcu/model_dense\.tflite: .*'expand': 3 of \d+"
    ):
      mcu.export_mcu(dataclasses.replace(request_, masks=masks))

  def test_encoder_that_changes_a_weight(self, request_, monkeypatch):
    pack = tflm_decode.pack_pruned

    def damaged(values, zeros):
      packed = pack(values, zeros)
      return dataclasses.replace(packed, ancillary=packed.ancillary[:-1] + b"\x7f")

    monkeypatch.setattr(tflm_decode, "pack_pruned", damaged)
    with pytest.raises(VerificationError, match=r"^mcu/model\.tflite: .*differ"):
      mcu.export_mcu(request_)

  def test_encoder_whose_file_does_not_load(self, request_, monkeypatch):
    monkeypatch.setattr(tflm_decode, "DECODE_OPERATOR", "UNHEARD_OF")
    with pytest.raises(VerificationError, match=r"^mcu/model\.tflite: .*code CUSTOM"):
      mcu.export_mcu(request_)

  def test_converter_that_loses_the_mask(self, request_, monkeypatch):
    def unpruned(model, format, calibration_inputs):
      return convert(models.small_classifier(), format, calibration_inputs)

    monkeypatch.setattr(mcu, "convert", unpruned)
    with pytest.raises(VerificationError, match="masked weights"):
      mcu.export_mcu(request_)


class TestCheckIdentical:
  def test_equal(self):
    mcu.check_identical(np.array([[1, 2]], np.int8), np.array([[1, 2]], np.int8))

  def test_counts_rows_and_the_largest_difference(self):
    dense = np.array([[1, 2], [-128, 0], [5, 5]], np.int8)
    other = np.array([[1, 2], [127, 0], [5, 6]], np.int8)
    with pytest.raises(VerificationError, match="2 of 3 inputs, by up to 255"):
      mcu.check_identical(dense, other)

  def test_shapes(self):
    with pytest.raises(VerificationError, match=r"\[2, 1\], the dense file's \[1, 2\]"):
      mcu.check_identical(np.zeros((1, 2), np.int8), np.zeros((2, 1), np.int8))


class TestCheckDecoded:
  def test_counts_values_that_differ(self, request_):
    dense = convert(request_.model, "int8_dense", request_.calibration_inputs)
    encoded = encode_pruned(dense)
    mcu.check_decoded(dense, encoded)
    other = models.small_classifier(seed=1)
    models.prune(other, 0.1, seed=5)
    unrelated = convert(other, "int8_dense", request_.calibration_inputs)
    with pytest.raises(
      VerificationError, match=r"\d+ of 512 values differ after DECODE"
    ):
      mcu.check_decoded(unrelated, encoded)


def test_density_is_read_from_the_file(bundle, request_):
  masked = weights.check_masked_zeros(
    bundle.files["mcu/model_dense.tflite"], request_.masks
  )
  assert bundle.artifacts[0].density == masked.density
