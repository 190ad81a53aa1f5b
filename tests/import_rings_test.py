"""Every module imports only from its own ring or from one further in."""

import ast
import pathlib
import sys

import pytest

from tools import imports, rings

ROOT = pathlib.Path(__file__).resolve().parents[1]


def violations(source: str, path: str) -> list[str]:
  """Lists the imports that a source at a path may not make."""
  file = pathlib.PurePosixPath(path)
  own = rings.ring(imports.module_name(file)) or ""
  return [
    f"{path}:{line}: {own} may not import {name} ({rings.ring(name)})"
    for line, name in imports.imports(source, file)
    if rings.ring(name) not in (None, *rings.MAY_IMPORT[own])
  ]


def _part(name: str, folder: str) -> str:
  """Returns which part of a package a dotted name in it is, or lies in."""
  return name.removeprefix(f"{folder}.").split(".")[0]


def order_violations(source: str, path: str, folder: str) -> list[str]:
  """Lists the imports of a source that lead forward in the order of a package."""
  file = pathlib.PurePosixPath(path)
  own = _part(imports.module_name(file), folder)
  order = rings.ORDERS[folder]
  allowed = order[: order.index(own) + 1] if own in order else order
  return [
    f"{path}:{line}: may not import {name}"
    for line, name in imports.imports(source, file)
    if name.startswith(f"{folder}.") and _part(name, folder) not in allowed
  ]


def library_problems(sources: dict[str, str]) -> list[str]:
  """Lists what `rings.LIBRARIES` has that no source imports, and the reverse."""
  used = {own: set[str]() for own in rings.LIBRARIES}
  for path, source in sources.items():
    file = pathlib.PurePosixPath(path)
    own = rings.ring(imports.module_name(file))
    if own in used:
      used[own] |= {name.split(".")[0] for _, name in imports.imports(source, file)}
  ours = {*imports.CODE_FOLDERS, *sys.stdlib_module_names}
  return [
    f"{own}: {name}"
    for own, found in used.items()
    for name in sorted((found - ours) ^ rings.LIBRARIES[own])
  ]


def _paths(folder: str) -> dict[pathlib.Path, str]:
  """Returns the files of a package and which of its parts each lies in."""
  return {
    path: _part(imports.module_name(path), folder)
    for path in imports.source_files(ROOT)
    if path.as_posix().startswith(f"{folder.replace('.', '/')}/")
    and imports.module_name(path) != folder
  }


def docstring_problems(root: pathlib.Path) -> list[str]:
  """Lists the packages under root without a docstring, or without `__init__.py`."""
  problems = []
  files = imports.source_files(root)
  for folder in sorted({file.parent for file in files}):
    init = root / folder / "__init__.py"
    if init.is_file():
      if not ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))):
        problems.append(f"{folder}/__init__.py has no docstring")
    # pytest imports test files by path; their folders are no packages.
    elif folder.parts[0] != "tests":
      problems.append(f"{folder}/ has no __init__.py")
  return problems


def test_no_module_imports_outward():
  found = []
  for path in imports.source_files(ROOT):
    found += violations((ROOT / path).read_text(encoding="utf-8"), path.as_posix())
  assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", rings.ORDERS)
def test_packages_go_forward(folder):
  paths = _paths(folder)
  found = []
  for path in paths:
    source = (ROOT / path).read_text(encoding="utf-8")
    found += order_violations(source, path.as_posix(), folder)
  assert not found, "\n".join(found)
  assert set(rings.ORDERS[folder]) <= set(paths.values())
  packages = {part for path, part in paths.items() if path.stem != part}
  assert packages <= set(rings.ORDERS[folder])


@pytest.mark.parametrize("folder", rings.ORDERS)
def test_only_commands_are_in_no_order(folder):
  unordered = set(_paths(folder).values()) - set(rings.ORDERS[folder])
  if folder == "pipelines":
    assert {"run", "export"} <= unordered
  else:
    assert not unordered


def test_libraries_are_those_that_are_told():
  paths = imports.source_files(ROOT)
  found = library_problems(
    {path.as_posix(): (ROOT / path).read_text(encoding="utf-8") for path in paths}
  )
  assert not found, "\n".join(found)


def test_a_library_too_many_or_too_few_is_found():
  used = {
    f"fedtiny_tff/{name}.py": f"import {name}" for name in rings.LIBRARIES["core"]
  }
  assert not [each for each in library_problems(used) if each.startswith("core")]
  found = library_problems(
    {**used, "fedtiny_tff/x.py": "from torch import nn\nimport os"}
  )
  assert "core: torch" in found
  del used["fedtiny_tff/h5py.py"]
  assert "core: h5py" in library_problems(used)


@pytest.mark.parametrize(
  ("path", "source"),
  [
    ("fedtiny_tff/sparsity/masks.py", "from fedtiny_tff.models import registry"),
    ("fedtiny_tff/seeds.py", "from fedtiny_tff.sparsity import masks"),
    (
      "fedtiny_tff/federated/runtimes/runtime.py",
      "from fedtiny_tff.federated import learning_process",
    ),
    ("pipelines/datasets/data_plan.py", "from pipelines.training import rounds_stage"),
    ("pipelines/apps/files.py", "def f():\n  from pipelines.settings import config"),
    ("pipelines/run_report.py", "import pipelines.stages"),
    ("pipelines/stages.py", "from pipelines import run"),
    ("pipelines/run.py", "from pipelines.train import main"),
    ("tflite_export/runtimes/tflm.py", "from tflite_export.conversion import convert"),
    ("tflite_export/artifacts.py", "from tflite_export import targets"),
  ],
)
def test_a_step_back_is_found(path, source):
  module = imports.module_name(pathlib.PurePosixPath(path))
  folder = max((each for each in rings.ORDERS if module.startswith(each)), key=len)
  assert len(order_violations(source, path, folder)) == 1
  first = f"from {folder}.{rings.ORDERS[folder][0]} import files"
  assert not order_violations(f"{first}\nimport os", path, folder)


def test_every_package_has_a_docstring():
  assert not docstring_problems(ROOT)


def test_the_table_covers_every_ring_and_folder():
  assert set(rings.MAY_IMPORT) == set(rings.RINGS.values()) - {"tff", "flags"}
  assert {rings.ring(each) for each in imports.CODE_FOLDERS} <= set(rings.MAY_IMPORT)


@pytest.mark.parametrize(
  ("path", "source"),
  [
    ("fedtiny_tff/sparsity/masks.py", "import tensorflow_federated as tff"),
    ("fedtiny_tff/sparsity/masks.py", "from fedtiny_tff import strategies"),
    ("fedtiny_tff/sparsity/masks.py", "from ..federated import method"),
    ("fedtiny_tff/models/cnn.py", "from ..strategies.fedtiny import Hooks"),
    ("fedtiny_tff/sparsity/masks.py", "import tflite_export"),
    ("fedtiny_tff/sparsity/masks.py", "from absl import flags"),
    ("fedtiny_tff/strategies/base.py", "import tensorflow_federated.learning"),
    (
      "fedtiny_tff/strategies/base.py",
      "import fedtiny_tff.federated.training_rounds.rounds",
    ),
    ("fedtiny_tff/federated/training_rounds/rounds.py", "from pipelines import app"),
    ("fedtiny_tff/federated/training_rounds/rounds.py", "from absl.flags import FLAGS"),
    (
      "tflite_export/conversion/convert.py",
      "from tensorflow_federated import learning",
    ),
    ("tflite_export/conversion/convert.py", "from fedtiny_tff.strategies import base"),
    ("tflite_export/conversion/convert.py", "from fedtiny_tff import federated"),
    ("pipelines/run.py", "from tests import support"),
    ("pipelines/run.py", "import benchmarks.speed"),
    ("benchmarks/speed.py", "from tests import support"),
    ("tools/setup.py", "import fedtiny_tff"),
  ],
)
def test_an_outward_import_is_found(path, source):
  assert len(violations(source, path)) == 1
  indented = "\n".join(f"    {line}" for line in source.splitlines())
  nested = f"class A:\n  def f(self):\n    if self:\n  {indented}\n"
  assert [text.split(":")[1] for text in violations(nested, path)] == ["4"]


@pytest.mark.parametrize(
  "call",
  [
    "importlib.import_module('tensorflow_federated.learning')",
    "import_module('fedtiny_tff.federated')",
    "__import__('tensorflow_federated')",
  ],
)
def test_an_outward_import_by_constant_name_is_found(call):
  assert violations(f"def f():\n  return {call}", "fedtiny_tff/sparsity/masks.py")


@pytest.mark.parametrize(
  ("path", "source"),
  [
    ("fedtiny_tff/sparsity/masks.py", "import tensorflow as tf\nfrom .. import errors"),
    ("fedtiny_tff/sparsity/masks.py", "from absl import logging"),
    ("fedtiny_tff/strategies/base.py", "from fedtiny_tff.sparsity import masks"),
    ("fedtiny_tff/strategies/__init__.py", "from . import base"),
    (
      "fedtiny_tff/federated/training_rounds/rounds.py",
      "import tensorflow_federated as tff",
    ),
    (
      "fedtiny_tff/federated/training_rounds/rounds.py",
      "from fedtiny_tff.strategies import base",
    ),
    ("tflite_export/conversion/convert.py", "from fedtiny_tff import errors"),
    ("pipelines/run.py", "from absl import app, flags\nimport tflite_export"),
    ("tests/pipelines/run_test.py", "from pipelines import run"),
  ],
)
def test_an_inward_import_is_allowed(path, source):
  assert violations(source, path) == []


def test_a_package_without_docstring_is_found(tmp_path):
  good, silent, bare = (tmp_path / "fedtiny_tff" / name for name in "abc")
  for folder in (good, silent, bare, tmp_path / "tests"):
    folder.mkdir(parents=True)
    (folder / "module.py").write_text('"""Something."""\n')
  (good / "__init__.py").write_text('"""Good."""\n')
  (silent / "__init__.py").write_text("import os\n")
  assert docstring_problems(tmp_path) == [
    "fedtiny_tff/b/__init__.py has no docstring",
    "fedtiny_tff/c/ has no __init__.py",
  ]
