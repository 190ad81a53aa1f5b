import dataclasses
import re

import pytest

from tests.tflite_export import models
from tests.tflite_export.cpp import compile_cpp, resolver_stand_in, write
from tflite_export import mcu_readme
from tflite_export.c_source import c_sources
from tflite_export.mcu_readme import readme
from tflite_export.mcu_verify import verify
from tflite_export.resolver_functions import resolver_functions
from tflite_export.tflm_decode import TensorReport

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


@pytest.fixture(scope="module")
def verified():
  request = models.request(*models.pruned(0.1))
  return verify(request, models.converted("int8_dense", 0.1))


@pytest.fixture(scope="module")
def text(verified):
  return readme(verified)


def test_says_what_firmware_costs(verified, text):
  flash, dense_flash = len(verified.encoded.model_bytes), len(verified.dense_bytes)
  arenas = (verified.arena.recommended_bytes, verified.dense_arena.recommended_bytes)
  assert f"| {flash} | {dense_flash} |" in text
  assert f"| {arenas[0]} | {arenas[1]} |" in text
  assert f"saves {dense_flash - flash} bytes of flash" in text
  assert "operators: Add, Conv2D, Decode, DepthwiseConv2D" in text
  assert "type PRUNING of operator DECODE" in text


def test_says_how_near_the_float_model_it_is(verified):
  comparison = dataclasses.replace(
    verified.comparison, argmax_agreement=0.8125, accuracy=None
  )
  text = readme(dataclasses.replace(verified, comparison=comparison))
  assert "same class as the float model: 81.25% of the evaluation inputs" in text
  assert "not known (no labels)" in text


def test_says_how_an_autoencoder_does(verified):
  comparison = dataclasses.replace(
    verified.comparison, argmax_agreement=None, accuracy=None, auc=0.8125,
    max_abs_error=0.25,
  )  # fmt: skip
  text = readme(dataclasses.replace(verified, comparison=comparison))
  assert "area under the ROC curve on the evaluation data: 0.8125" in text
  assert "largest difference from the float model: 0.25" in text
  assert "anomaly score" in text
  assert "class" not in text.replace("small_classifier", "")
  unknown = dataclasses.replace(comparison, auc=None)
  assert "not known (no anomalies)" in readme(
    dataclasses.replace(verified, comparison=unknown)
  )


def test_a_row_for_each_tensor(text):
  assert "small_classifier/expand/Conv2D | 512 | 131 |  |" in text
  assert len(re.findall(r"^\| small_classifier/", text, re.MULTILINE)) == 16


def test_names_cannot_break_the_table():
  report = TensorReport("a|b\nc", 0, 1, 64, 64, "why")
  assert mcu_readme._tensor_row(report) == "| a\\|b c | 64 | 64 | why |"


def test_program_compiles(verified, text, tmp_path):
  (program,) = re.findall(r"```cpp\n(.*?)```", text, re.DOTALL)
  file = verified.encoded.model_bytes
  folder = "tensorflow/lite/micro/"
  stand_in = resolver_stand_in(resolver_functions(file))
  write(
    tmp_path,
    {
      **c_sources(file, ("a", "b", "c", "d"), verified.arena.recommended_bytes),
      "main.cc": program,
      f"{folder}micro_mutable_op_resolver.h": stand_in,
      f"{folder}micro_interpreter.h": INTERPRETER_STAND_IN,
    },
  )
  compile_cpp(tmp_path, "-std=c++11", "-fsyntax-only", "main.cc")
