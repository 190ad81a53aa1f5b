"""The ring of sensor rows gives a window as training saw it."""

import subprocess

from tests.docs import snippets
from tests.tflite_export.cpp import needs_compiler

_MAIN = """
#include <cstdio>

int main() {
  for (int row = 0; row < 70; ++row) {
    const float values[kColumns] = {row + 0.0f, row + 0.25f, row + 0.5f};
    AddRow(values);
  }
  for (int place = 0; place < kRows * kColumns; ++place) {
    std::printf("%.2f ", static_cast<double>(Feature(place)));
  }
}
"""


@needs_compiler
def test_the_oldest_row_comes_first(tmp_path):
  (ring,) = (
    block.text
    for block in snippets.blocks()
    if block.page == "docs/microcontrollers.md" and "AddRow" in block.text
  )
  (tmp_path / "ring.cc").write_text(ring + _MAIN)
  command = ["g++", "-std=c++11", "-Wall", "-Werror", "ring.cc", "-o", "ring"]
  subprocess.run(command, cwd=tmp_path, check=True)
  printed = subprocess.run([tmp_path / "ring"], capture_output=True, check=True).stdout
  wanted = [row + part for row in range(6, 70) for part in (0, 0.25, 0.5)]
  assert [float(each) for each in printed.split()] == wanted
