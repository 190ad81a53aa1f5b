"""The tutorial runs from top to bottom, and was committed as it ran."""

import json
import re

import pytest

from tests.pipelines import support

_PATH = support.ROOT / "docs" / "tutorial.ipynb"
_TIMEOUT_SECONDS = 900


def _texts(cell):
  """Returns what a cell printed or showed as text, without pictures."""
  found = []
  for output in cell["outputs"]:
    shown = output.get("data", {})
    parts = [
      output.get("text", ""),
      shown.get("text/plain", ""),
      shown.get("text/html", ""),
    ]
    found += ["".join(part) for part in parts]
  return "\n".join(found)


def _shape(cell):
  """Returns the words of what a cell showed, without its numbers."""
  words = re.sub(r"\d[\d.,]*(?:e[-+]\d+)?", "#", _texts(cell))
  return " ".join(words.split())


@pytest.fixture(name="cells", scope="module")
def fixture_cells():
  document = json.loads(_PATH.read_text(encoding="utf-8"))
  return [cell for cell in document["cells"] if cell["cell_type"] == "code"]


def test_it_was_run_once_from_the_top(cells):
  numbers = [cell["execution_count"] for cell in cells]
  assert numbers == list(range(1, len(cells) + 1))
  kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
  assert "error" not in kinds
  pictures = [
    output
    for cell in cells
    for output in cell["outputs"]
    if "image/png" in output.get("data", {})
  ]
  assert len(pictures) == 5


def test_its_outputs_hold_no_path_or_warning_of_a_machine(cells):
  shown = "\n".join(map(_texts, cells))
  assert not re.findall(r"/(?:home|root|tmp|work|usr)/\S*|[Ww]arning\S*|\bb'\\x", shown)
  stderr = [x for c in cells for x in c["outputs"] if x.get("name") == "stderr"]
  assert not stderr


@pytest.mark.slow
def test_it_runs(cells):
  nbformat = pytest.importorskip("nbformat", reason="`make setup` installs it")
  nbclient = pytest.importorskip("nbclient", reason="`make setup` installs it")
  pytest.importorskip("ipykernel", reason="`make setup` installs it")
  notebook = nbformat.read(_PATH, 4)
  for cell in notebook.cells:
    if cell.cell_type == "code":
      cell.outputs, cell.execution_count = [], None
  client = nbclient.NotebookClient(
    notebook,
    timeout=_TIMEOUT_SECONDS,
    kernel_name="python3",
    resources={"metadata": {"path": str(_PATH.parent)}},
  )
  client.execute()
  ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
  # Other processors round otherwise, so that figures differ a little.
  assert list(map(_shape, ran)) == list(map(_shape, cells))
  figures = re.search(r"sparse ([\d.]+)%, dense ([\d.]+)%", "\n".join(map(_texts, ran)))
  assert figures is not None
  assert min(map(float, figures.groups())) > 90
