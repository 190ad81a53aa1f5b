import dataclasses
import re
import shutil
import subprocess

import pytest

from fedtiny_tff.data.extraction import declare
from fedtiny_tff.data.preprocessing import Preprocessing
from tests.tflite_export import models
from tests.tflite_export.cpp import run_program, write
from tflite_export.conversion.convert_mcu import McuSettings
from tflite_export.decode.tflm_decode import TensorReport
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers import (
  golden_vectors,
  mcu_budget,
  mcu_peaks,
  mcu_readme,
)
from tflite_export.microcontrollers.c_source import c_sources
from tflite_export.microcontrollers.mcu_budget import Footprint
from tflite_export.microcontrollers.mcu_readme import Handover
from tflite_export.microcontrollers.mcu_verify import verify
from tflite_export.microcontrollers.resolver_functions import resolver_functions
from tflite_export.microcontrollers.tflm_stand_ins import stand_ins
from tflite_export.texts.raw_layout import RawLayout


@pytest.fixture(scope="module")
def verified():
  request = models.request(*models.pruned(0.1))
  return verify(request, models.converted("int8_dense", 0.1))


def handover(
  verified, settings=None, options=None, preprocessing=None, layout=None, num_classes=4
):
  found, dense = (
    mcu_budget.footprint(file, arena, ("a", "b", "c", "d"))
    for file, arena in (
      (verified.encoded.model_bytes, verified.arena),
      (verified.dense_bytes, verified.dense_arena),
    )
  )
  return Handover(
    settings or McuSettings(),
    options or McuOptions(),
    found,
    dense,
    num_classes,
    preprocessing,
    layout,
  )


def readme(verified, **more):
  return mcu_readme.readme(verified, handover(verified, **more))


@pytest.fixture(scope="module")
def text(verified):
  return readme(verified)


def test_says_what_firmware_costs(verified, text):
  flash, dense_flash = len(verified.encoded.model_bytes), len(verified.dense_bytes)
  arenas = (verified.arena.recommended_bytes, verified.dense_arena.recommended_bytes)
  assert f"| {flash} | {dense_flash} |" in text
  assert f"| {arenas[0]} | {arenas[1]} |" in text
  assert f"saves {verified.shrunk_size_bytes - flash} bytes of flash" in text
  assert "operators: Add, Conv2D, Decode, DepthwiseConv2D" in text
  assert "type PRUNING of operator DECODE" in text
  # Six sizes of the shapes, four pointers, four names of one letter.
  assert "| flash for names, shapes and means | 48 | 48 |" in text
  more = arenas[0] - arenas[1]
  assert f"takes {more} bytes more of RAM" in text
  assert flash < verified.shrunk_size_bytes < dense_flash
  assert f"would take {verified.shrunk_size_bytes} bytes" in text


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
  text = readme(dataclasses.replace(verified, comparison=comparison), num_classes=0)
  assert "area under the ROC curve on the evaluation data: 0.8125" in text
  assert "largest difference from the float model: 0.25" in text
  assert "anomaly score" in text
  assert "kClassNames" not in text
  unknown = dataclasses.replace(comparison, auc=None)
  assert "not known (no anomalies)" in readme(
    dataclasses.replace(verified, comparison=unknown), num_classes=0
  )


def test_says_what_a_single_output_is(verified):
  comparison = dataclasses.replace(
    verified.comparison, argmax_agreement=None, accuracy=None
  )
  text = readme(dataclasses.replace(verified, comparison=comparison), num_classes=1)
  assert "same class as the float model: not known (a single output)" in text
  assert "is the one value that the model gives" in text
  for told in ("kClassNames", "area under", "anomaly"):
    assert told not in text


def test_a_row_for_each_tensor(text):
  (beside,) = re.findall(
    r"small_classifier/expand/Conv2D \| 512 \| 131 \| (\d+) \| PRUNING \|", text
  )
  # 8×8×16 inputs, 512 weights, 8×8×32 outputs; its 32 biases stay dense or take 128.
  assert int(beside) - 8 * 8 * 16 - 512 - 8 * 8 * 32 in (0, 128)
  assert len(re.findall(r"^\| small_classifier/", text, re.MULTILINE)) == 16


def test_names_cannot_break_the_table():
  report = TensorReport("a|b\nc", 0, 1, 64, 64, "", "why")
  row = mcu_readme._tensor_row(report, mcu_peaks.Peaks(100, {}))
  assert row == "| a\\|b c | 64 | 64 |  | why |"
  row = mcu_readme._tensor_row(report, mcu_peaks.Peaks(100, {(0, 1): 96}))
  assert row == "| a\\|b c | 64 | 64 | 96 | why |"


def test_says_which_forms_firmware_must_decode(verified):
  tensors = tuple(
    dataclasses.replace(each, form="LUT") if number % 2 else each
    for number, each in enumerate(
      each for each in verified.encoded.tensors if each.encoded
    )
  )
  encoded = dataclasses.replace(verified.encoded, tensors=tensors)
  text = readme(dataclasses.replace(verified, encoded=encoded))
  assert "types LUT and PRUNING of operator DECODE" in text


def test_says_what_the_budgets_are(verified):
  made = handover(verified, options=McuOptions(flash_bytes=16_384, ram_bytes=20_000))
  made = dataclasses.replace(made, found=Footprint(8_192, 5_000))
  text = mcu_readme.readme(verified, made)
  assert "Budget of flash: 8192 of 16384 bytes (50.0%)." in text
  assert "Budget of RAM: 5000 of 20000 bytes (25.0%)." in text
  assert "Budget" not in readme(verified)


def test_says_what_numbers_and_names_there_are(verified, text):
  assert "the same int8 numbers" in text
  assert "names among them" in text
  other = readme(
    verified, settings=McuSettings(16), options=McuOptions(keep_names=True)
  )
  assert "the same int16 numbers" in other
  assert "keeps names" in other
  assert "names among them" not in other


def test_says_how_inputs_are_preprocessed(verified, text):
  assert "raw example" not in text
  assert "fill that in `FillInput`" in text
  how = Preprocessing(1 / 16, (0.3,), (0.38,))
  other = readme(verified, preprocessing=how)
  assert (
    f"What training did to a raw example, and firmware is to do: {how.in_words()}"
    in other
  )
  assert "give `Feature` your values" in other
  assert "spectrum" not in other
  of_signal = dataclasses.replace(how, extraction=declare("log_mel", [16_000]))
  assert "TFLM has no kernels for the spectrum" in readme(
    verified, preprocessing=of_signal
  )


def test_says_in_which_order_raw_values_stand(verified):
  how = Preprocessing(1.0, (0.3,), (0.38,))
  text = readme(verified, preprocessing=how, layout=RawLayout(64, ("ax", "a|y")))
  assert (
    "A raw example is 64 rows of a table, the oldest first; value 2 * row + column, "
    "columns 0 ax, 1 a\\|y.\n"
  ) in text
  many = tuple(f"c{number}" for number in range(20))
  text = readme(verified, preprocessing=how, layout=RawLayout(1, many))
  assert "one row of a table, a value a column: 0 c0, 1 c1," in text
  assert "11 c11 and 8 more, all of which `model_settings.h` names.\n" in text
  assert "A raw example is" not in readme(verified, preprocessing=how)


def test_says_how_to_write_inputs(verified, text):
  assert "rounded and clamped to the limits of\n`InputType`" in text
  assert "ModelInput" not in text
  how = Preprocessing(1.0, (0.3,), (0.38,))
  assert "`real` is `ModelInput(raw, place)`" in readme(verified, preprocessing=how)
  of_floats = readme(verified, settings=McuSettings(float_ends=True))
  assert "Write real inputs" in of_floats
  assert "kInputScale" not in of_floats


def test_says_where_headers_are(text):
  downloads = "TFLM_DOWNLOADS := $(TFLM_DIR)/tensorflow/lite/micro/tools/make/downloads"
  assert downloads in text
  for folder in ("flatbuffers/include", "gemmlowp", "ruy"):
    assert f"-I$(TFLM_DOWNLOADS)/{folder}" in text
  assert "`tflite-micro` stands for the target" in text


def test_the_dense_file_becomes_a_header(verified, text, tmp_path):
  (tmp_path / "model_dense.tflite").write_bytes(verified.dense_bytes)
  (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
  if shutil.which("xxd") is None:
    pytest.skip("xxd is not installed")
  subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True)
  program = """
    #include <cstdint>
    #include <cstdio>
    #include "model_dense_data.h"
    int main() {
      if (reinterpret_cast<std::uintptr_t>(model_dense_tflite) % 16 != 0) return 1;
      std::fwrite(model_dense_tflite, 1, model_dense_tflite_len, stdout);
    }
  """
  assert run_program(tmp_path, program) == verified.dense_bytes
  assert f"an arena of {verified.dense_arena.recommended_bytes} bytes" in text
  count = len(resolver_functions(verified.dense_bytes))
  assert f"number of operators in `OpResolver` to {count}." in text


def test_the_dense_files_operators_may_be_the_same(verified):
  dense = dataclasses.replace(
    verified,
    encoded=dataclasses.replace(verified.encoded, model_bytes=verified.dense_bytes),
  )
  assert "`kArenaBytes`. Operators are the same." in readme(dense)


def test_program_links_and_runs(verified, text, tmp_path):
  program, _ = re.findall(r"```cpp\n(.*?)```", text, re.DOTALL)
  file = verified.encoded.model_bytes
  sources = c_sources(file, ("a", "b", "c", "d"), verified.arena.recommended_bytes)
  write(tmp_path, {**sources, **stand_ins(resolver_functions(file))})
  once = program.replace("while (true)", "for (int i = 0; i < 2; ++i)")
  assert once != program
  printed = run_program(tmp_path, once, "main_functions.cc", "model_data.cc")
  assert printed == b"a\na\n"


def test_the_check_of_a_build_compiles(verified, text, tmp_path):
  _, check = re.findall(r"```cpp\n(.*?)```", text, re.DOTALL)
  include, body = check.split("\n", 1)
  file = verified.encoded.model_bytes
  sources = c_sources(file, ("a", "b", "c", "d"), verified.arena.recommended_bytes)
  sources |= golden_vectors.sources(file)
  write(tmp_path, {**sources, **stand_ins(resolver_functions(file))})
  program = (
    f'{include}\n#include "tensorflow/lite/micro/micro_interpreter.h"\n'
    f"void Check(tflite::MicroInterpreter& interpreter) {{{body}}}\nint main() {{}}\n"
  )
  assert run_program(tmp_path, program, "golden_vectors.cc") == b""
