"""Golden vectors: TFLM's own numbers, told apart by a compiled program."""

import re

import numpy as np
import pytest

from tests.tflite_export import models
from tests.tflite_export.cpp import STANDARDS, run_program, write
from tflite_export.conversion.convert_mcu import McuSettings, convert_mcu
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.microcontrollers import c_source, golden_vectors
from tflite_export.runtimes import tflm

# An interpreter that answers with the golden outputs, and with `WRONG` added to the last
# one of the second vector; it fails the run of `FAILS`.
PROGRAM = """
  #include "golden_vectors.h"
  #include <cmath>
  #include <cstdio>
  #include <cstring>

  using namespace fedtiny_model;

  struct Interpreter {
    InputType input[kInputElements];
    OutputType output[kOutputElements];
    int runs = 0;
    template <class T> T* typed_input_tensor(int) { return input; }
    template <class T> T* typed_output_tensor(int) { return output; }
    int Invoke() {
      if (runs == FAILS) return 1;
      for (int place = 0; place < kInputElements; ++place) {
        if (std::memcmp(&input[place], &kGoldenInputs[runs][place], sizeof(InputType))) return 1;
      }
      for (int place = 0; place < kOutputElements; ++place) {
        output[place] = kGoldenOutputs[runs][place];
      }
      if (runs == 1) output[kOutputElements - 1] = OutputType(output[kOutputElements - 1] + (WRONG));
      ++runs;
      return 0;
    }
  };

  int main() {
    Interpreter interpreter;
    std::printf("%g", GoldenDifference(interpreter));
  }
"""
SETTINGS = [McuSettings(8, False), McuSettings(16, False), McuSettings(8, True)]


@pytest.fixture(
  name="file", scope="module", params=SETTINGS, ids=lambda each: each.name
)
def fixture_file(request):
  content = convert_mcu(models.pruned(0.1)[0], models.random_inputs(8), request.param)
  return encode_pruned(content).model_bytes


def _answer(folder, file, wrong="0", fails=-1, standard="c++11"):
  sources = golden_vectors.sources(file)
  settings = c_source.c_sources(file, None, 1_024)["model_settings.h"]
  write(folder, {**sources, "model_settings.h": settings})
  program = PROGRAM.replace("WRONG", wrong).replace("FAILS", str(fails))
  return float(run_program(folder, program, "golden_vectors.cc", standard=standard))


@pytest.mark.parametrize("standard", STANDARDS)
def test_the_same_numbers_are_no_difference(tmp_path, file, standard):
  assert _answer(tmp_path, file, standard=standard) == 0


@pytest.mark.parametrize(("wrong", "difference"), [("3", 3), ("-2", 2)])
def test_a_difference_is_told(tmp_path, file, wrong, difference):
  assert _answer(tmp_path, file, wrong) == pytest.approx(difference, rel=1e-5)


@pytest.mark.parametrize("fails", [0, 1])
def test_a_run_that_fails_is_minus_one(tmp_path, file, fails):
  assert _answer(tmp_path, file, fails=fails) == -1


def test_no_number_is_minus_one(tmp_path):
  content = convert_mcu(
    models.pruned(0.1)[0], models.random_inputs(8), McuSettings(8, True)
  )
  assert _answer(tmp_path, content, "NAN") == -1


def _array(text, name):
  (rows,) = re.findall(rf"{name}\[.*?= \{{(.*?)\}};", text, re.DOTALL)
  numbers = re.findall(r"-?[\d.]+(?:e[+-]\d+)?", rows)
  return np.array(numbers, np.float64).reshape(2, -1)


def _constant(settings, name):
  (value,) = re.findall(rf" k{name} = (.*?)f?;", settings)
  return float(value)


def test_they_are_what_tflm_computes(file):
  text = golden_vectors.sources(file)["golden_vectors.cc"]
  settings = c_source.c_sources(file, None, 1_024)["model_settings.h"]
  scale, zero_point = (
    _constant(settings, f"Input{each}") for each in ("Scale", "ZeroPoint")
  )
  stored = _array(text, "kGoldenInputs")
  shape = (2, *models.random_inputs(1).shape[1:])
  inputs = (scale * (stored - zero_point)).reshape(shape).astype(np.float32)
  outputs = tflm.run(file, inputs).stored_outputs.reshape(2, -1)
  np.testing.assert_allclose(_array(text, "kGoldenOutputs"), outputs, rtol=1e-6)
  assert len(np.unique(outputs)) > 2
  assert len(np.unique(stored)) > 100


def test_the_same_file_has_the_same_text_and_another_others(file):
  assert golden_vectors.sources(file) == golden_vectors.sources(file)
  other = convert_mcu(
    models.pruned(0.5)[0], models.random_inputs(8), McuSettings(8, False)
  )
  assert golden_vectors.sources(other) != golden_vectors.sources(file)
