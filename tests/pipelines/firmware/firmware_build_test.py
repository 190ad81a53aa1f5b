"""Sources of an export compiled with what is here; broken ones, and no compiler."""

import pytest

from pipelines import doctor
from pipelines.firmware import cpp_compiler, firmware_build
from tests.tflite_export import models
from tests.tflite_export.cpp import ARM_COMPILER, has_arm_compiler, needs_compiler
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert_mcu import McuSettings, convert_mcu
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.microcontrollers import golden_vectors
from tflite_export.microcontrollers.c_source import c_sources

ARENA_BYTES = 20_480
NAMES = ("cat", "dog", "bird", "fish")
needs_arm = pytest.mark.skipif(
  not has_arm_compiler(),
  reason="arm-none-eabi-g++ is not installed (Debian: gcc-arm-none-eabi, "
  "libnewlib-arm-none-eabi, libstdc++-arm-none-eabi-newlib)",
)


def exported(content, names):
  sources = c_sources(content, names, ARENA_BYTES) | golden_vectors.sources(content)
  files = {f"mcu/{name}": text.encode() for name, text in sources.items()}
  return files | {"mcu/model.tflite": content}


@pytest.fixture(name="content", scope="module")
def fixture_content():
  return encode_pruned(models.converted("int8_dense", 0.1)).model_bytes


@pytest.fixture(name="files")
def fixture_files(content):
  return exported(content, NAMES)


@pytest.fixture(name="without")
def fixture_without(monkeypatch):
  """Hides programs."""
  which = cpp_compiler.shutil.which

  def hide(*names):
    monkeypatch.setattr(
      cpp_compiler.shutil, "which", lambda name: None if name in names else which(name)
    )

  return hide


def break_source(files, name, old, new):
  text = files[f"mcu/{name}"]
  assert old in text
  files[f"mcu/{name}"] = text.replace(old, new)


@needs_compiler
class TestOnThisMachine:
  def test_good_sources(self, files, without):
    without(ARM_COMPILER)
    found = firmware_build.check(files)
    assert found.objects == ()
    assert found.lines[0] == (
      "model_data.cc links and main_functions.cc compiles with g++, against stand-ins "
      "for TFLM's headers"
    )

  def test_sources_without_classes(self, without):
    without(ARM_COMPILER)
    request = models.autoencoder_request()
    content = convert_mcu(request.model, request.calibration, McuSettings())
    files = exported(encode_pruned(content).model_bytes, None)
    assert firmware_build.check(files).lines[0].startswith("model_data.cc links")

  @pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
      ("main_functions.cc", b"Invoke()", b"Invoke(", r"main_functions\.cc:\d+:\d+: error"),
      ("main_functions.cc", b"kArenaBytes", b"kArena", r"main_functions\.cc.* error.*kArena"),
      ("op_resolver.h", b"AddDecode", b"AddDecoder", r"op_resolver\.h.* error.*AddDecoder"),
      ("arena.h", b"std::size_t", b"std::size", r"arena\.h.* error"),
      ("model_settings.h", b"kInputElements", b"kElements", r"error.*kInputElements"),
      ("model_data.h", b"kModelDataBytes = ", b"kModelDataBytes = 1", "another file's"),
      ("model_data.cc", b"fedtiny_model", b"other_model", r"model_data\.cc:\d+.*error"),
      ("golden_vectors.h", b"Invoke()", b"Invoke(", r"golden_vectors\.h:\d+.*error"),
      ("golden_vectors.cc", b"kGoldenOutputs", b"kOutputs", r"undefined.*kGoldenOutputs"),
    ],
  )  # fmt: skip
  def test_broken_sources(self, files, without, name, old, new, reason):
    without(ARM_COMPILER)
    break_source(files, name, old, new)
    with pytest.raises(VerificationError, match=f"^the C.. sources do not .*{reason}"):
      firmware_build.check(files)

  def test_an_array_that_is_not_there(self, files, without):
    without(ARM_COMPILER)
    files["mcu/model_data.cc"] = b'#include "model_data.h"\n'
    with pytest.raises(VerificationError, match=r"undefined reference to .*g_model"):
      firmware_build.check(files)

  def test_no_vectors_are_none_to_compile(self, files, without):
    without(ARM_COMPILER)
    del files["mcu/golden_vectors.h"], files["mcu/golden_vectors.cc"]
    assert firmware_build.check(files).lines[0].startswith("model_data.cc links")

  def test_no_compiler(self, files, without):
    without("g++", ARM_COMPILER)
    # Nobody can tell that it is broken.
    break_source(files, "main_functions.cc", b"Invoke()", b"Invoke(")
    found = firmware_build.check(files)
    assert found.objects == ()
    assert found.lines == (
      "Not checked: whether the C++ sources compile. g++ is not installed; on Debian: "
      "apt-get install g++",
      "Not checked: what the C++ sources take on cortex-m4 and cortex-m55. "
      "arm-none-eabi-g++ is not installed; on Debian: apt-get install "
      "gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib",
    )


@needs_arm
class TestOnArm:
  def test_a_row_for_each_source_and_processor(self, files, content):
    found = firmware_build.check(files)
    rows = {(row.cpu, row.source): row for row in found.objects}
    assert list(rows) == [
      (cpu, source)
      for cpu in ("cortex-m4", "cortex-m55")
      for source in ("main_functions.cc", "model_data.cc")
    ]
    for (_, source), row in rows.items():
      assert row.compiler.startswith("arm-none-eabi-g++ ")
      assert row.data_bytes == 0
      if source == "model_data.cc":
        taken = (row.text_bytes, row.rodata_bytes, row.bss_bytes)
        assert taken == (0, len(content), 0)
      else:
        assert 0 < row.flash_bytes < 4096
        assert ARENA_BYTES <= row.ram_bytes < ARENA_BYTES + 256

  def test_what_is_said(self, files, content):
    _, *lines = firmware_build.check(files).lines
    assert [line.split(",")[0] for line in lines] == ["cortex-m4", "cortex-m55"]
    for line in lines:
      assert "without TFLM itself: main_functions.cc " in line
      assert line.endswith(f", model_data.cc {len(content):,} and 0")

  def test_a_source_that_only_arm_refuses(self, files):
    break_source(
      files,
      "main_functions.cc",
      b"namespace {",
      b"#ifdef __arm__\n#error no\n#endif\nnamespace {",
    )
    with pytest.raises(VerificationError, match=r"headers, for cortex-m4: .*#error no"):
      firmware_build.check(files)

  def test_it_is_measured_without_g_plus_plus(self, files, without):
    without("g++")
    found = firmware_build.check(files)
    assert found.lines[0].startswith("Not checked: whether")
    assert len(found.objects) == 4

  def test_a_compiler_older_than_a_processor(self, files, tmp_path, monkeypatch):
    real = cpp_compiler.shutil.which(ARM_COMPILER)
    script = f"""#!/bin/sh
      case "$*" in *cortex-m55*) echo "error: what is that?" >&2; exit 1;; esac
      exec {real} "$@"
    """
    (tmp_path / ARM_COMPILER).write_text(script)
    (tmp_path / ARM_COMPILER).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = firmware_build.check(files)
    assert {row.cpu for row in found.objects} == {"cortex-m4"}
    assert found.lines[-1].startswith(
      "Not checked: what the C++ sources take on cortex-m55. arm-none-eabi-g++ cannot "
      "be used: error: what is that?; on Debian: "
    )


def test_the_doctor_looks_for_the_same_compilers(without):
  looked_for: list[str] = []
  doctor.check_tools(looked_for.append)
  assert {cpp_compiler.GXX, firmware_build._ARM_GXX} <= set(looked_for)
