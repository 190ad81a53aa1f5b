"""Tests of the firmware sources: compiled by g++, and run where that says more."""

import pathlib
import re
import subprocess

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.tflm_decode_test import WIDTH, chain, sparse_values, written
from tflite_export import c_source
from tflite_export.convert import convert
from tflite_export.tflm_decode import encode_pruned, read_model

NAMES = ("cat", "dog", "bird", "fish")
STANDARDS = ("c++11", "c++17")

# A stand-in, NOT TFLM's header: just enough for the compiler to check op_resolver.h.
RESOLVER_STAND_IN = """
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
namespace tflite {
template <unsigned int tOpCount>
class MicroMutableOpResolver {
 public:
  unsigned int added = 0;
  TfLiteStatus Count() { return ++added > tOpCount ? kTfLiteError : kTfLiteOk; }
  FUNCTIONS
};
}  // namespace tflite
"""


@pytest.fixture(scope="module")
def file():
  model = models.small_classifier()
  models.prune(model, 0.1)
  dense = convert(model, "int8_dense", models.random_inputs(8))
  return encode_pruned(dense).model_bytes


@pytest.fixture(scope="module")
def sources(file):
  return c_source.c_sources(file, NAMES, arena_bytes=10_416)


def write(folder: pathlib.Path, files):
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def compile_cpp(folder, *arguments):
  command = ["g++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I.", *arguments]
  done = subprocess.run(
    command, cwd=folder, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr


def run_program(folder, program, *others, standard="c++11"):
  write(folder, {"main.cc": program})
  compile_cpp(folder, f"-std={standard}", "main.cc", *others, "-o", "program")
  return subprocess.run(
    ["./program"], cwd=folder, capture_output=True, check=True
  ).stdout


def resolver_stand_in(functions):
  declared = "\n  ".join(
    f"TfLiteStatus {each}() {{ return Count(); }}" for each in functions
  )
  return RESOLVER_STAND_IN.replace("FUNCTIONS", declared)


class TestModelData:
  @pytest.mark.parametrize("standard", STANDARDS)
  def test_array_is_the_file_and_is_aligned(self, tmp_path, sources, file, standard):
    write(tmp_path, sources)
    program = """
      #include <cstdint>
      #include <cstdio>
      #include "model_data.h"
      using namespace fedtiny_model;
      int main() {
        if (reinterpret_cast<std::uintptr_t>(kModelData) % 16 != 0) return 1;
        if (sizeof(kModelData) != kModelDataBytes) return 2;
        return std::fwrite(kModelData, 1, kModelDataBytes, stdout) != kModelDataBytes;
      }
    """
    assert run_program(tmp_path, program, "model_data.cc", standard=standard) == file

  def test_short_lines(self, sources):
    assert max(map(len, sources["model_data.cc"].splitlines())) <= 80

  def test_same_text_each_time(self, sources, file):
    assert c_source.c_sources(file, NAMES, arena_bytes=10_416) == sources


class TestSettings:
  def test_constants_are_the_files(self, tmp_path, sources, file):
    write(tmp_path, sources)
    program = """
      #include <cstdio>
      #include "model_settings.h"
      using namespace fedtiny_model;
      int main() {
        std::printf("%d %d %d %d %d\\n", kInputRank, kInputShape[1], kInputShape[3],
                    kInputElements, static_cast<int>(sizeof(InputType)));
        std::printf("%.9g %d %.9g %d\\n", static_cast<double>(kInputScale),
                    kInputZeroPoint, static_cast<double>(kOutputScale),
                    kOutputZeroPoint);
        std::printf("%d %d %s\\n", kOutputElements, kNumClasses, kClassNames[3]);
      }
    """
    shapes, scales, classes = run_program(tmp_path, program).decode().splitlines()
    assert shapes == "4 16 3 768 1"
    assert classes == "4 4 fish"
    graph = read_model(file).subgraphs[0]
    source = graph.tensors[graph.inputs[0]].quantization
    target = graph.tensors[graph.outputs[0]].quantization
    read = scales.split()
    assert np.float32(read[0]) == source.scale[0]
    assert np.float32(read[2]) == target.scale[0]
    assert (int(read[1]), int(read[3])) == (source.zeroPoint[0], target.zeroPoint[0])

  @pytest.mark.parametrize("standard", STANDARDS)
  def test_names_survive_the_compiler(self, tmp_path, file, standard):
    names = (
      '"quoted" \\n',
      "??= trigraph",
      "Zürich 東京 \x7f",
      "tab\t newline\n 0x1f9",
    )
    write(tmp_path, c_source.c_sources(file, names, 1024))
    program = """
      #include <cstdio>
      #include "model_settings.h"
      int main() {
        for (const char* name : fedtiny_model::kClassNames) {
          std::fputs(name, stdout);
          std::fputc(0, stdout);
        }
      }
    """
    printed = run_program(tmp_path, program, standard=standard)
    assert printed == "".join(f"{name}\0" for name in names).encode()

  def test_sources_are_plain_ascii(self, file):
    texts = c_source.c_sources(file, ("ä", "ß", "é", "\x01"), 1024)
    assert all(text.isascii() and text.endswith("\n") for text in texts.values())

  def test_float_files_have_the_identity_scale(self):
    model = models.small_classifier()
    text = c_source.c_sources(convert(model, "fp32_dense"), NAMES, 1024)
    assert "using InputType = float;" in text["model_settings.h"]
    assert "kInputScale = 1.00000000e+00f;" in text["model_settings.h"]

  @pytest.mark.parametrize(
    ("names", "message"),
    [
      (NAMES[:3], "3 class names for 4 outputs"),
      (("a", "b", "c", "d\0e"), "NUL"),
      (("a", "b", "c", "\ud800"), "not valid text"),
    ],
  )
  def test_unusable_class_names(self, file, names, message):
    with pytest.raises(InputError, match=message):
      c_source.c_sources(file, names, 1024)

  @pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
  def test_unusable_scale(self, scale):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].tensors[1].quantization.scale = [scale]
    with pytest.raises(InputError, match="scale"):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)

  def test_scale_without_zero_point(self):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].tensors[1].quantization.zeroPoint = None
    with pytest.raises(InputError):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)

  def test_unusable_type(self):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].tensors[1].type = schema.TensorType.STRING
    with pytest.raises(InputError, match="input type"):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)

  @pytest.mark.parametrize("shape", [[], [-1, WIDTH], None])
  def test_shape_that_is_not_fixed(self, shape):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].tensors[1].shape = shape
    with pytest.raises(InputError, match="fixed shape"):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)

  def test_two_outputs(self):
    model = chain([sparse_values()], [(1, 0)], [0])
    model.subgraphs[0].outputs.append(1)
    with pytest.raises(InputError, match="2 outputs"):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)


class TestOpResolver:
  FUNCTIONS = (
    "AddAdd",
    "AddConv2D",
    "AddDecode",
    "AddDepthwiseConv2D",
    "AddFullyConnected",
    "AddMean",
    "AddPad",
  )

  def test_exactly_the_operators_used(self, file):
    assert c_source.resolver_functions(file) == self.FUNCTIONS

  @pytest.mark.parametrize("standard", STANDARDS)
  def test_registers_each_once(self, tmp_path, sources, standard):
    header = "tensorflow/lite/micro/micro_mutable_op_resolver.h"
    write(tmp_path, {**sources, header: resolver_stand_in(self.FUNCTIONS)})
    program = """
      #include "op_resolver.h"
      int main() {
        fedtiny_model::OpResolver resolver;
        if (fedtiny_model::RegisterOps(resolver) != kTfLiteOk) return 1;
        return resolver.added == 7 ? 0 : 2;
      }
    """
    run_program(tmp_path, program, standard=standard)

  def test_an_operator_is_not_registered_twice(self):
    dense = written(chain([sparse_values()], [(1, 0)], [0, 0, 0]))
    assert c_source.resolver_functions(dense) == ("AddFullyConnected",)

  @pytest.mark.parametrize(
    ("operator", "function"),
    [
      ("AVERAGE_POOL_2D", "AddAveragePool2D"),
      ("BATCH_TO_SPACE_ND", "AddBatchToSpaceNd"),
      ("BATCH_MATMUL", "AddBatchMatMul"),
      ("CUMSUM", "AddCumSum"),
      ("L2_POOL_2D", "AddL2Pool2D"),
      ("PADV2", "AddPadV2"),
      ("RELU6", "AddRelu6"),
      ("SELECT_V2", "AddSelectV2"),
      ("SPLIT_V", "AddSplitV"),
      ("UNIDIRECTIONAL_SEQUENCE_LSTM", "AddUnidirectionalSequenceLSTM"),
    ],
  )
  def test_names_of_upstream(self, operator, function):
    code = getattr(schema.BuiltinOperator, operator)
    assert c_source.resolver_functions(with_code(code)) == (function,)

  def test_every_known_operator_gives_an_identifier(self):
    for operator in c_source._TFLM_OPERATORS:
      code = getattr(schema.BuiltinOperator, operator)
      (function,) = c_source.resolver_functions(with_code(code))
      assert re.fullmatch(r"Add[A-Z][A-Za-z0-9]*", function)

  @pytest.mark.parametrize("operator", ["DENSIFY", "RFFT2D", "STABLEHLO_ADD"])
  def test_operator_tflm_does_not_know(self, operator):
    code = getattr(schema.BuiltinOperator, operator)
    with pytest.raises(InputError, match=operator):
      c_source.resolver_functions(with_code(code))

  def test_custom_operator_of_someone_else(self):
    file = with_code(schema.BuiltinOperator.CUSTOM, custom="Mine")
    with pytest.raises(InputError, match="operator Mine"):
      c_source.resolver_functions(file)

  def test_number_outside_the_schema(self):
    with pytest.raises(InputError, match="number 9999"):
      c_source.resolver_functions(with_code(9999))


def with_code(code, custom=None):
  model = chain([sparse_values()], [(1, 0)], [0])
  model.operatorCodes[0].builtinCode = code
  model.operatorCodes[0].deprecatedBuiltinCode = min(code, 127)
  model.operatorCodes[0].customCode = custom
  return written(model)


def test_arena_is_a_constant(tmp_path, sources):
  write(tmp_path, sources)
  program = """
    #include "arena.h"
    static_assert(fedtiny_model::kArenaBytes == 10416, "as given");
    int main() {}
  """
  run_program(tmp_path, program)


def test_damaged_file(file):
  with pytest.raises(InputError):
    c_source.c_sources(file[:1000], NAMES, 1024)
