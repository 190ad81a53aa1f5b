"""Tests of the example: compiled with and without optimisation, and run.

TFLM's headers are replaced by stand-ins that compute nothing (`tflm_stand_ins`).
"""

import pytest
import tensorflow as tf

from fedtiny_tff.data.preprocessing import Preprocessing
from tests.tflite_export import models
from tests.tflite_export.cpp import (
  STANDARDS,
  arm_object_bytes,
  compile_cpp,
  has_arm_compiler,
  run_program,
  write,
)
from tflite_export.conversion.convert_mcu import McuSettings, convert_mcu
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.microcontrollers import c_source
from tflite_export.microcontrollers.c_source_example import example
from tflite_export.microcontrollers.resolver_functions import resolver_functions
from tflite_export.microcontrollers.tflm_stand_ins import stand_ins

NAMES = ("cat", "dog", "bird", "fish")
PROGRAM = """
  #include "main_functions.h"
  int main() {
    setup();
    loop();
    loop();
  }
"""
SETTINGS = [McuSettings(bits, ends) for bits in (8, 16) for ends in (False, True)]


def encoded(settings):
  rows = models.random_inputs(8)
  content = convert_mcu(models.pruned(0.1)[0], rows, settings)
  return encode_pruned(shrink(content).model_bytes).model_bytes


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda each: each.name)
def file(request):
  return encoded(request.param)


def folder_with(folder, file, names, arena_bytes=20_480, preprocessing=None):
  sources = c_source.c_sources(file, names, arena_bytes, preprocessing)
  write(folder, {**sources, **stand_ins(resolver_functions(file))})
  return folder


class TestCompiled:
  @pytest.mark.parametrize("standard", STANDARDS)
  def test_links_and_runs(self, tmp_path, file, standard):
    folder_with(tmp_path, file, NAMES)
    sources = ("main_functions.cc", "model_data.cc")
    printed = run_program(tmp_path, PROGRAM, *sources, standard=standard)
    # All outputs are equal in the stand-in: the first class wins each time.
    assert printed == b"cat\ncat\n"

  def test_without_classes(self, tmp_path):
    request = models.autoencoder_request()
    content = convert_mcu(request.model, request.calibration, McuSettings())
    folder_with(tmp_path, encode_pruned(content).model_bytes, None)
    compile_cpp(tmp_path, "-std=c++11", "-O2", "-c", "main_functions.cc")
    printed = run_program(
      tmp_path, PROGRAM, "main_functions.cc", "model_data.cc"
    ).split()
    assert len(printed) == 2
    assert all(int(score) >= 0 for score in printed)

  @pytest.mark.parametrize("float_ends", [False, True])
  def test_a_single_output_is_printed_itself(self, tmp_path, float_ends):
    inputs = tf.keras.Input((4,))
    outputs = tf.keras.layers.Dense(1, activation="sigmoid")(inputs)
    rows = models.random_inputs(8)[:, :4, 0, 0]
    model = tf.keras.Model(inputs, outputs)
    content = convert_mcu(model, rows, McuSettings(float_ends=float_ends))
    folder_with(tmp_path, content, ("cat",))
    program = """
      #include "main_functions.cc"
      int main() {
        const OutputType values[] = {2};
        HandleOutput(values);
      }
    """
    printed = run_program(tmp_path, program, "model_data.cc")
    # Sigmoid's int8 are from -128 on, 256 to one.
    assert printed == (b"2000\n" if float_ends else b"507\n")

  def test_setup_that_fails_is_told_and_loop_does_nothing(self, tmp_path, file):
    folder_with(tmp_path, file, NAMES)
    header = tmp_path / "tensorflow/lite/micro/micro_interpreter.h"
    text = header.read_text().replace("size_ > 0", "size_ > 1000000")
    header.write_text(text)
    sources = ("main_functions.cc", "model_data.cc")
    printed = run_program(tmp_path, PROGRAM, *sources).decode()
    assert printed.startswith("AllocateTensors() failed")
    assert printed.count("\n") == 1

  def test_an_operator_too_many_is_told(self, tmp_path, file):
    folder_with(tmp_path, file, NAMES)
    header = tmp_path / "tensorflow/lite/micro/micro_mutable_op_resolver.h"
    header.write_text(header.read_text().replace("> tOpCount", ">= tOpCount"))
    sources = ("main_functions.cc", "model_data.cc")
    printed = run_program(tmp_path, PROGRAM, *sources).decode()
    assert printed == "An operator is missing in this TFLM.\n"


def test_stored_values_are_rounded_and_saturate(tmp_path):
  folder_with(tmp_path, encoded(McuSettings()), NAMES)
  settings = tmp_path / "model_settings.h"
  lines = [
    "constexpr float kInputScale = 5.00000000e-01f;" if "kInputScale" in line
    else "constexpr int kInputZeroPoint = 3;" if "kInputZeroPoint" in line
    else line
    for line in settings.read_text().splitlines()
  ]  # fmt: skip
  settings.write_text("\n".join(lines) + "\n")
  program = """
    #include "main_functions.cc"
    #include <cstdio>
    int main() {
      const float reals[] = {0.0f, 0.3f, -0.3f, 1000.0f, -1000.0f};
      for (float real : reals) {
        std::printf("%d ", static_cast<int>(Stored(real)));
      }
    }
  """
  # 0 / 0.5 + 3, round(±0.6) + 3, and the ends of int8.
  printed = run_program(tmp_path, program, "model_data.cc")
  assert printed.split() == [b"3", b"4", b"2", b"127", b"-128"]


def test_inputs_are_normalised(tmp_path):
  how = Preprocessing(1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
  folder_with(tmp_path, encoded(McuSettings()), NAMES, preprocessing=how)
  example_file = tmp_path / "main_functions.cc"
  assert "Stored(ModelInput(Feature(i), i))" in example_file.read_text()
  printed = run_program(tmp_path, PROGRAM, example_file.name, "model_data.cc")
  assert printed == b"cat\ncat\n"


def test_floats_are_not_quantised():
  text = example("float", has_classes=True)["main_functions.cc"]
  assert "Stored" not in text
  assert "<cmath>" not in text


@pytest.mark.skipif(
  not has_arm_compiler(),
  reason="arm-none-eabi-g++ is not installed (Debian: gcc-arm-none-eabi, "
  "libnewlib-arm-none-eabi, libstdc++-arm-none-eabi-newlib)",
)
@pytest.mark.parametrize("cpu", ["cortex-m4", "cortex-m55"])
class TestOnArm:
  def test_the_array_takes_the_models_bytes_of_flash(self, tmp_path, file, cpu):
    folder_with(tmp_path, file, NAMES)
    sizes = arm_object_bytes(tmp_path, "model_data.cc", cpu)
    assert sizes == {"text": 0, "rodata": len(file), "data": 0, "bss": 0}

  def test_the_example_takes_the_arena_and_little_else(self, tmp_path, file, cpu):
    folder_with(tmp_path, file, NAMES, arena_bytes=20_480)
    sizes = arm_object_bytes(tmp_path, "main_functions.cc", cpu)
    assert 20_480 <= sizes["bss"] < 20_480 + 256
    assert sizes["data"] == 0
    assert 0 < sizes["text"] + sizes["rodata"] < 4096

  def test_arrays_take_what_is_counted(self, tmp_path, file, cpu):
    # No two arrays alike, which a compiler might store once.
    how = Preprocessing(0.5, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    folder_with(tmp_path, file, NAMES, preprocessing=how)
    uses = """
      #include "model_settings.h"
      using namespace fedtiny_model;
      const char* name(int i) { return kClassNames[i]; }
      int size(int i) { return kInputShape[i] + kOutputShape[i]; }
      float input(float feature, int i) { return ModelInput(feature, i); }
    """
    write(tmp_path, {"uses.cc": uses})
    sizes = arm_object_bytes(tmp_path, "uses.cc", cpu)
    assert sizes["rodata"] == c_source.array_bytes(file, NAMES, how)
