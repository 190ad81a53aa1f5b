"""Objects of firmware: sections summed by kind."""

import string

from hypothesis import given
from hypothesis import strategies as st

from tflite_export.microcontrollers.firmware_objects import (
  FirmwareObject,
  section_bytes,
)

# As binutils 2.40 prints it.
LISTING = """main_functions.o  :
section                      size   addr
.group                         12      0
.text                         180      0
.data                           4      0
.bss                        10448      0
.text._Z11MicroPrintfPKcz      32      0
.rodata.str1.1                137      0
.rodata                        16      0
.comment                       39      0
.ARM.attributes                46      0
Total                       10914


"""


def test_sections_are_summed_by_kind():
  # 180 + 32 and 137 + 16; the rest is never loaded.
  assert section_bytes(LISTING) == {
    "text": 212, "rodata": 153, "data": 4, "bss": 10_448,
  }  # fmt: skip


def test_what_lists_nothing_takes_nothing():
  assert section_bytes("") == {"text": 0, "rodata": 0, "data": 0, "bss": 0}
  assert section_bytes(".text\n.text:\n") == section_bytes("")


def test_what_begins_like_a_kind_is_none():
  assert section_bytes(".textual 5 0\n.databus 6 0\n") == section_bytes("")


def test_initial_values_lie_in_flash_and_in_ram():
  row = FirmwareObject(
    compiler="a compiler 1", cpu="cortex-m4", source="a.cc",
    text_bytes=1, rodata_bytes=20, data_bytes=300, bss_bytes=4_000,
  )  # fmt: skip
  assert row.flash_bytes == 321
  assert row.ram_bytes == 4_300


_NAMES = st.text(string.ascii_letters + string.digits + "._$", max_size=20)
_SECTIONS = st.lists(
  st.tuples(
    st.sampled_from(("text", "rodata", "data", "bss", "comment", "debug_info")),
    _NAMES,
    st.integers(0, 2**40),
  )
)


@given(_SECTIONS)
def test_names_within_a_kind_do_not_matter(sections):
  lines = ["a.o  :", "section size addr"]
  lines += [
    f".{kind}{'.' if name else ''}{name} {size} 0" for kind, name, size in sections
  ]
  found = section_bytes("\n".join(lines))
  for kind in ("text", "rodata", "data", "bss"):
    assert found[kind] == sum(size for each, _, size in sections if each == kind)
