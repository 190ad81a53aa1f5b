"""What an interruption left half done, and what of pip's output is shown."""

import pathlib

import pytest

from tools import setup_packages


def _package(site_packages: pathlib.Path, name: str) -> pathlib.Path:
  dist_info = site_packages / f"{name}-1.0.dist-info"
  dist_info.mkdir(parents=True)
  (site_packages / name).mkdir()
  (site_packages / name / "__init__.py").write_text("")
  (dist_info / "INSTALLER").write_text("pip\n")
  (dist_info / "RECORD").write_text(
    f"{name}/__init__.py,sha256=abc,0\n"
    f"{name}/__pycache__/__init__.cpython-311.pyc,,\n"
    f"{name}-1.0.dist-info/RECORD,,\n"
  )
  return dist_info


def test_a_complete_package_is_kept_even_without_byte_code(tmp_path):
  dist_info = _package(tmp_path, "whole")
  assert setup_packages.remove_damaged(tmp_path) == []
  assert dist_info.is_dir()


@pytest.mark.parametrize("lost", ["INSTALLER", "RECORD", "../broken/__init__.py"])
def test_an_incomplete_package_is_forgotten(tmp_path, lost):
  whole = _package(tmp_path, "whole")
  broken = _package(tmp_path, "broken")
  (broken / lost).unlink()
  (tmp_path / "~roken").mkdir()
  assert setup_packages.remove_damaged(tmp_path) == ["broken"]
  assert not broken.exists()
  assert not (tmp_path / "~roken").exists()
  assert whole.is_dir()


def test_pip_is_never_forgotten(tmp_path):
  pip = _package(tmp_path, "pip")
  (pip / "RECORD").unlink()
  assert setup_packages.remove_damaged(tmp_path) == []


def test_fetched_packages_are_counted():
  log = "Looking in links: x\nCollecting a==1\n  Downloading a\nProcessing ./b.whl\n"
  assert setup_packages.count_fetched(log) == 2
  assert setup_packages.count_fetched("") == 0


def test_errors_are_shown_without_the_noise_around_them():
  log = (
    "Collecting six==1.17.0\nWARNING: Location ignored\n"
    "ERROR: THESE PACKAGES DO NOT MATCH\n    Expected sha256 a\n\n"
    "WARNING: old pip\n[notice] new version\n    Got b\n"
  )
  assert setup_packages.error_lines(log) == [
    "ERROR: THESE PACKAGES DO NOT MATCH",
    "    Expected sha256 a",
    "    Got b",
  ]


def test_output_without_an_error_line_shows_its_end():
  assert setup_packages.error_lines("\n".join(["Killed"] * 100)) == ["Killed"] * 30
