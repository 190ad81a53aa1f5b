"""Stand-ins for TFLM's headers: marked, valid alone, and no more than was asked for."""

import re

import pytest

from tests.tflite_export.cpp import STANDARDS, compile_cpp, run_program, write
from tflite_export.microcontrollers import c_source_example
from tflite_export.microcontrollers.tflm_stand_ins import MARK, stand_ins

FUNCTIONS = ("AddConv2D", "AddDecode")
RESOLVER = "tensorflow/lite/micro/micro_mutable_op_resolver.h"


def test_every_header_says_that_it_is_not_tflm_s():
  assert "NOT TFLM's" in MARK
  for text in stand_ins(FUNCTIONS).values():
    assert text.startswith(MARK)


@pytest.mark.parametrize("input_type", ["int8_t", "float"])
@pytest.mark.parametrize("has_classes", [True, False])
def test_they_are_what_the_example_includes(input_type, has_classes):
  source = c_source_example.example(input_type, has_classes)["main_functions.cc"]
  included = set(re.findall(r'#include "(tensorflow/[^"]+)"', source))
  common = "tensorflow/lite/micro/stand_in_common.h"
  assert included == set(stand_ins(FUNCTIONS)) - {common}
  assert RESOLVER in included


@pytest.mark.parametrize("standard", STANDARDS)
def test_each_compiles_alone_and_twice(tmp_path, standard):
  headers = stand_ins(FUNCTIONS)
  write(tmp_path, headers)
  for path in headers:
    write(tmp_path, {"alone.cc": f'#include "{path}"\n#include "{path}"\n'})
    compile_cpp(tmp_path, f"-std={standard}", "-fsyntax-only", "alone.cc")


def test_the_resolver_has_the_functions_named_and_room_for_them(tmp_path):
  write(tmp_path, stand_ins(FUNCTIONS))
  program = f"""
    #include <cstdio>
    #include "{RESOLVER}"
    int main() {{
      tflite::MicroMutableOpResolver<2> enough;
      tflite::MicroMutableOpResolver<1> too_small;
      std::printf("%d", enough.AddConv2D());
      std::printf("%d", enough.AddDecode());
      std::printf("%d", too_small.AddConv2D());
      std::printf("%d", too_small.AddDecode());
    }}
  """
  assert run_program(tmp_path, program) == b"0001"


def test_the_resolver_has_no_other_functions(tmp_path):
  write(tmp_path, stand_ins(("AddConv2D",)))
  program = f"""
    #include "{RESOLVER}"
    int main() {{
      tflite::MicroMutableOpResolver<2> resolver;
      return resolver.AddDecode();
    }}
  """
  with pytest.raises(AssertionError, match=r"no member named .AddDecode"):
    run_program(tmp_path, program)
