"""One version, said twice."""

import pathlib
import tomllib

from fedtiny_tff.version import VERSION

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_project_file_says_the_same():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  assert project["version"] == VERSION
