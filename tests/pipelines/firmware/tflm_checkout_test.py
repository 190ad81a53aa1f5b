"""The example against a checkout's headers; stand-ins for them, which compute nothing."""

import pytest

from fedtiny_tff.errors import InputError
from pipelines.firmware import tflm_checkout
from tests.pipelines import support
from tests.tflite_export import models
from tests.tflite_export.cpp import needs_compiler, write
from tflite_export.artifacts import VerificationError
from tflite_export.microcontrollers.c_source import c_sources
from tflite_export.microcontrollers.resolver_functions import resolver_functions
from tflite_export.microcontrollers.tflm_stand_ins import stand_ins

_FLATBUFFERS = (
  "tensorflow/lite/micro/tools/make/downloads/flatbuffers/include/flatbuffers/"
  "flatbuffers.h"
)


@pytest.fixture(name="content", scope="module")
def fixture_content():
  return models.converted("int8_dense", 0.1)


@pytest.fixture(name="files")
def fixture_files(content):
  sources = c_sources(content, tuple("abcd"), 1024)
  return {f"mcu/{name}": text.encode() for name, text in sources.items()}


@pytest.fixture(name="checkout")
def fixture_checkout(tmp_path, content):
  """A folder that looks like a checkout of TFLM, but is none."""
  headers = stand_ins(resolver_functions(content))
  schema = "tensorflow/lite/schema/schema_generated.h"
  # As TFLM's, it includes a header out of the downloads.
  headers[schema] = f'#include "flatbuffers/flatbuffers.h"\n{headers[schema]}'
  write(tmp_path, {**headers, _FLATBUFFERS: "#pragma once\n"})
  return tmp_path


@needs_compiler
def test_compiles(checkout, files):
  tflm_checkout.check(str(checkout))
  tflm_checkout.compile_example(files, str(checkout))


@needs_compiler
def test_another_tflm_is_found_out(checkout, files):
  header = checkout / "tensorflow/lite/micro/micro_mutable_op_resolver.h"
  header.write_text(header.read_text().replace("AddConv2D", "AddConvolution"))
  with pytest.raises(VerificationError, match=r"do not compile .*AddConv2D"):
    tflm_checkout.compile_example(files, str(checkout))


@needs_compiler
def test_a_relative_folder(checkout, files, monkeypatch):
  monkeypatch.chdir(checkout.parent)
  tflm_checkout.compile_example(files, checkout.name)


class TestRefused:
  def test_a_folder_that_is_no_checkout(self, tmp_path):
    with pytest.raises(InputError, match="name a checkout of tflite-micro"):
      support.make_config(tflm_dir=str(tmp_path))

  def test_a_folder_that_is_not_there(self, tmp_path):
    with pytest.raises(InputError, match=r"--tflm_dir=.*none: holds no tensorflow/"):
      support.make_config(tflm_dir=str(tmp_path / "none"))

  def test_downloads_that_are_missing(self, checkout):
    (checkout / _FLATBUFFERS).unlink()
    with pytest.raises(InputError, match="third_party_downloads"):
      support.make_config(tflm_dir=str(checkout))

  def test_no_compiler(self, checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"g\+\+ is not installed"):
      support.make_config(tflm_dir=str(checkout))
