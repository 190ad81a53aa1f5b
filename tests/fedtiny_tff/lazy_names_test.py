"""A package's public names are loaded when they are asked for, once."""

import sys
import types

import pytest

from fedtiny_tff.lazy_names import lazy_names


@pytest.fixture(name="package")
def fixture_package(monkeypatch):
  package = types.ModuleType("a_package")
  places = {"InputError": "fedtiny_tff.errors", "gone": "no_such_module"}
  load, listed = lazy_names("a_package", places)
  vars(package).update(__getattr__=load, __dir__=listed)
  monkeypatch.setitem(sys.modules, "a_package", package)
  return package


def test_a_name_is_loaded_and_kept(package):
  from fedtiny_tff.errors import InputError

  assert "InputError" not in vars(package)
  assert package.InputError is InputError
  assert vars(package)["InputError"] is InputError


def test_names_are_listed_before_they_are_loaded(package):
  assert {"InputError", "gone", "__name__"} <= set(dir(package))


def test_another_name_is_told(package):
  with pytest.raises(
    AttributeError, match="module 'a_package' has no attribute 'other'"
  ):
    _ = package.other


def test_a_module_that_is_not_there_is_a_defect(package):
  with pytest.raises(ModuleNotFoundError):
    _ = package.gone
