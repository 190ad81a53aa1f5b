"""Tests of the firmware sources: compiled by g++, and run where that says more."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.data.extraction import declare
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.cpp import STANDARDS, run_program, write
from tests.tflite_export.files import WIDTH, one_layer, written
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.microcontrollers import c_source
from tflite_export.microcontrollers.resolver_functions import resolver_functions
from tflite_export.microcontrollers.tflm_stand_ins import stand_ins
from tflite_export.texts.raw_layout import RawLayout

NAMES = ("cat", "dog", "bird", "fish")


@pytest.fixture(scope="module")
def file():
  return encode_pruned(models.converted("int8_dense", 0.1)).model_bytes


@pytest.fixture(scope="module")
def sources(file):
  return c_source.c_sources(file, NAMES, arena_bytes=10_416)


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
        if (reinterpret_cast<std::uintptr_t>(g_model) % 16 != 0) return 1;
        if (sizeof(g_model) != kModelDataBytes) return 2;
        return std::fwrite(g_model, 1, kModelDataBytes, stdout) != kModelDataBytes;
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

  def test_without_classes_there_are_no_names(self, tmp_path, file):
    sources = c_source.c_sources(file, None, 1024)
    write(tmp_path, sources)
    program = '#include "model_settings.h"\nint main() { return 0; }\n'
    run_program(tmp_path, program, standard="c++11")
    settings = sources["model_settings.h"]
    assert "Class" not in settings
    with_names = c_source.c_sources(file, NAMES, 1024)["model_settings.h"]
    constants = [line for line in settings.splitlines() if "constexpr" in line]
    assert constants == [
      line
      for line in with_names.splitlines()
      if "constexpr" in line and "Class" not in line
    ]

  def test_sources_are_plain_ascii(self, file):
    texts = c_source.c_sources(file, ("ä", "ß", "é", "\x01"), 1024)
    assert all(text.isascii() and text.endswith("\n") for text in texts.values())

  def test_float_files_have_the_identity_scale(self):
    text = c_source.c_sources(models.converted("fp32_dense"), NAMES, 1024)
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
    model = one_layer()
    model.subgraphs[0].tensors[1].quantization.scale = [scale]
    with pytest.raises(InputError, match="scale"):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)

  def test_scale_without_zero_point(self):
    model = one_layer()
    model.subgraphs[0].tensors[1].quantization.zeroPoint = None
    with pytest.raises(InputError):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)

  def test_unusable_type(self):
    model = one_layer()
    model.subgraphs[0].tensors[1].type = schema.TensorType.STRING
    with pytest.raises(InputError, match="input type"):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)

  @pytest.mark.parametrize("shape", [[], [-1, WIDTH], None])
  def test_shape_that_is_not_fixed(self, shape):
    model = one_layer()
    model.subgraphs[0].tensors[1].shape = shape
    with pytest.raises(InputError, match="fixed shape"):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)

  def test_two_outputs(self):
    model = one_layer()
    model.subgraphs[0].outputs.append(1)
    with pytest.raises(InputError, match="2 outputs"):
      c_source.c_sources(written(model), ["name"] * WIDTH, 1024)


class TestPreprocessing:
  # 4 features of 0, 100, 200, 300, on channels in turn.
  _PROGRAM = """
    #include <cstdio>
    #include "model_settings.h"
    using namespace fedtiny_model;
    int main() {
      for (int i = 0; i < 4; ++i) {
        std::printf("%.9g ", static_cast<double>(ModelInput(100.0f * i, i)));
      }
    }
  """

  @pytest.mark.parametrize(
    "how",
    [
      Preprocessing(1 / 255, (-0.5, 0.25, 1e-7), (0.5, 1e-5, 3.0)),
      Preprocessing(1 / 3, (0.1,), (0.7,)),
    ],
  )
  @pytest.mark.parametrize("standard", STANDARDS)
  def test_inputs_are_those_of_training(self, tmp_path, file, how, standard):
    write(tmp_path, c_source.c_sources(file, NAMES, 1024, how))
    printed = run_program(tmp_path, self._PROGRAM, standard=standard).split()
    features = np.zeros((4, len(how.mean)), np.float32)
    features[:] = 100 * np.arange(4)[:, np.newaxis]
    wanted = how.apply(features)[range(4), np.arange(4) % len(how.mean)]
    np.testing.assert_array_equal(np.array(printed, np.float32), wanted)

  def test_what_features_are_made_of_is_told(self, tmp_path, file):
    how = Preprocessing(1.0, (0.0,), (1.0,), declare("mfcc", [16_000]))
    sources = c_source.c_sources(file, NAMES, 1024, how)
    write(tmp_path, sources)
    program = """
      #include <cstdio>
      #include "model_settings.h"
      using namespace fedtiny_model;
      static_assert(kExtractionSampleRateHz == 16000, "as declared");
      static_assert(kExtractionHopSamples == 320, "as declared");
      static_assert(kExtractionCoefficients == 10, "as declared");
      static_assert(kExtractionUpperHz == 4000.0f, "as declared");
      int main() { std::fputs(kExtractionKind, stdout); }
    """
    assert run_program(tmp_path, program) == b"mfcc"
    text = sources["model_settings.h"]
    assert "512-point FFT" in " ".join(text.replace("//", "").split())
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()
    resized = Preprocessing(
      1.0, (0.0,), (1.0,), declare("resize", [9, 9, 1], 1, (4, 5))
    )
    text = c_source.c_sources(file, NAMES, 1024, resized)["model_settings.h"]
    assert "kExtractionHeight = 4;" in text
    assert "resized to 4 x 5 pixels" in text
    assert text.isascii()

  def test_the_order_of_raw_values_is_told(self, tmp_path, file):
    how = Preprocessing(1.0, (0.0,), (1.0,))
    names = ("ax", "m/s \\ ", "ä ??/", '"z"', "*" * 90)
    layout = RawLayout(64, names)
    sources = c_source.c_sources(file, NAMES, 1024, how, layout)
    write(tmp_path, sources)
    program = """
      #include "model_settings.h"
      using namespace fedtiny_model;
      static_assert(kRawRows == 64 && kRawColumns == 5, "as given");
      int main() {}
    """
    run_program(tmp_path, program)
    text = " ".join(sources["model_settings.h"].replace("\n//", "").split())
    assert (
      "A raw example: 64 rows of a table, the oldest first; value 5 * row + column, "
      r'columns 0 "ax", 1 "m/s \u005c ", 2 "\u00e4 \u003f\u003f/", 3 "\"z\"", 4 "'
    ) in text
    assert sources["model_settings.h"].isascii()
    for line in sources["model_settings.h"].splitlines():
      assert not line.endswith(("\\", "??/"))

  def test_where_it_is_not_known_there_is_none(self, sources):
    assert "Feature" not in sources["model_settings.h"]
    assert "kRaw" not in sources["model_settings.h"]
    assert "ModelInput" not in sources["main_functions.cc"]


class TestOpResolver:
  @pytest.mark.parametrize("standard", STANDARDS)
  def test_registers_each_once(self, tmp_path, sources, file, standard):
    write(tmp_path, {**sources, **stand_ins(resolver_functions(file))})
    program = """
      #include "op_resolver.h"
      int main() {
        fedtiny_model::OpResolver resolver;
        if (fedtiny_model::RegisterOps(resolver) != kTfLiteOk) return 1;
        return resolver.added == 7 ? 0 : 2;
      }
    """
    run_program(tmp_path, program, standard=standard)


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


class TestArrayBytes:
  def test_shapes_names_and_pointers(self, file):
    # [1, 16, 16, 3] and [1, 4]: six sizes; four pointers; names with their ends.
    assert c_source.array_bytes(file, NAMES) == 4 * 6 + 4 * 4 + 4 + 4 + 5 + 5
    assert c_source.array_bytes(file, None) == 4 * 6
    assert c_source.array_bytes(file, ("ü",) * 4) == 4 * 6 + 4 * 4 + 4 * 3

  @pytest.mark.parametrize("name", ["\ud800", "a\0b"])
  def test_names_that_are_no_text(self, file, name):
    with pytest.raises(InputError, match="class name"):
      c_source.array_bytes(file, (*NAMES[:3], name))

  def test_means_and_deviations_of_several_channels(self, file):
    one, three = (Preprocessing(1.0, (0.5,) * n, (2.0,) * n) for n in (1, 3))
    assert c_source.array_bytes(file, None, one) == 4 * 6
    assert c_source.array_bytes(file, None, three) == 4 * 6 + 4 * 2 * 3

  def test_two_outputs(self):
    model = one_layer()
    model.subgraphs[0].outputs.append(1)
    with pytest.raises(InputError, match="2 outputs"):
      c_source.array_bytes(written(model), None)
