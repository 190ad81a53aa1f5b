"""The drawing of the packages has the arrows that the imports make, and no others."""

import pathlib
import re
from xml.etree import ElementTree

import pytest

from tools import imports, rings

ROOT = pathlib.Path(__file__).resolve().parents[2]
_DRAWING = ROOT / "docs" / "architecture.svg"
# Where code for users is; tools and tests are not drawn.
_DRAWN = ("fedtiny_tff", "tflite_export", "pipelines")


def _box(name, boxes):
  """Returns the box of a module: the longest of our names or libraries that fits."""
  parts = name.split(".")
  prefixes = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
  return next((prefix for prefix in prefixes if prefix in boxes), None)


def _arrows(sources, boxes):
  """Returns the arrows that imports make, as pairs of boxes.

  Args:
    sources: Path relative to the checkout to a module's source.
    boxes: Names that are drawn.
  """
  found = set()
  for path, source in sources.items():
    start = _box(imports.module_name(path), boxes)
    ends = {_box(each.name, boxes) for each in imports.imports(source, path)}
    found |= {(start, end) for end in ends - {start, None}}
  return found


@pytest.fixture(name="drawing", scope="module")
def fixture_drawing():
  elements = list(ElementTree.parse(_DRAWING).getroot())
  boxes = {each.get("data-package") for each in elements} - {None}
  arrows = [(each.get("data-from"), each.get("data-to")) for each in elements]
  return boxes, [each for each in arrows if each != (None, None)]


def test_arrows_are_imports(drawing):
  boxes, arrows = drawing
  sources = {
    path: (ROOT / path).read_text(encoding="utf-8")
    for path in imports.source_files(ROOT)
    if path.parts[0] in _DRAWN
  }
  assert len(arrows) == len(set(arrows))
  assert set(arrows) == _arrows(sources, boxes), "redraw docs/architecture.svg"


def test_every_folder_of_code_is_in_a_box(drawing):
  boxes, _ = drawing
  folders = {path.parts[0] for path in imports.source_files(ROOT)} & set(_DRAWN)
  assert folders <= boxes


def test_another_import_is_another_arrow(drawing):
  boxes, arrows = drawing
  path = pathlib.PurePath("tflite_export/new.py")
  found = _arrows({path: "import tensorflow_federated as tff"}, boxes)
  assert found == {("tflite_export", "tensorflow_federated")}
  assert not found & set(arrows)


def test_files_that_the_page_names_are_there():
  page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
  table = page.split("## Where is what")[1]
  named = re.findall(r"`([\w/]+\.py)`", table)
  assert len(named) > 10
  for name in named:
    assert (ROOT / name).is_file() or (ROOT / "fedtiny_tff" / name).is_file(), name


@pytest.mark.parametrize("folder", rings.ORDERS)
def test_packages_are_told_in_their_order(folder):
  page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
  heading = f"| package of `{folder.replace('.', '/')}/` | holds |"
  table = page.split(heading)[1].split("\n\n")[0]
  cells = [row.split("|")[1] for row in table.splitlines()[2:]]
  named = [name for cell in cells for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)]
  assert named == list(rings.ORDERS[folder])


def test_the_table_of_folders_is_that_of_the_rings():
  page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
  table = page.split("| folder | may import of ours | libraries | holds |")[1]
  rows = [row.split("|")[1:-1] for row in table.split("\n\n")[0].splitlines()[2:]]
  told = {
    rings.ring(folder.strip(" `/").replace("/", ".")): set(
      re.findall(r"`(\w+)`", names)
    )
    for folder, _, names, _ in rows
  }
  assert set(told) == set(rings.MAY_IMPORT)
  assert {own: names for own, names in told.items() if names} == rings.LIBRARIES
