"""Public names are there, known to type checkers, and cost nothing until asked for."""

import importlib
import pathlib
import re

import pytest

import fedtiny_tff
import tflite_export
from tests.tflite_export.processes import loaded_by

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = (fedtiny_tff, tflite_export)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_loaded_from_where_it_is(package):
  for name, module in package.NAMES.items():
    assert getattr(package, name) is getattr(importlib.import_module(module), name)
  assert set(package.NAMES) < set(dir(package))
  with pytest.raises(AttributeError, match="has no attribute 'build_nothing'"):
    package.build_nothing  # noqa: B018 - asked for on purpose.


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_know_the_same_names(package):
  stub = (ROOT / package.__name__ / "__init__.pyi").read_text(encoding="utf-8")
  found = re.findall(r"from (\S+) import \(?\s*(\w+) as (\w+)", stub)
  assert {name: module for module, name, _ in found} == package.NAMES
  assert all(name == alias for _, name, alias in found)


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package):
  heavy = ("tensorflow", "tensorflow_federated", "ai_edge_litert", "tflite_micro")
  assert loaded_by([package.__name__], heavy) == []
