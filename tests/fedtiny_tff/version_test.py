"""One version, said once: whatever else shows it reads it here."""

import pathlib
import re
import tomllib

from fedtiny_tff.version import VERSION

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_project_file_reads_it():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
  assert "version" not in project["project"]
  assert "version" in project["project"]["dynamic"]
  said = project["tool"]["setuptools"]["dynamic"]["version"]
  assert said == {"attr": "fedtiny_tff.version.VERSION"}


def test_the_changelog_knows_it():
  headings = re.findall(
    r"^## (\d\S*) - \d{4}-\d\d-\d\d$",
    (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    re.M,
  )
  assert headings[0] == VERSION


def test_bazels_module_has_it():
  module = (ROOT / "MODULE.bazel").read_text(encoding="utf-8")
  assert re.findall(r'^    version = "(.+)",$', module, re.M) == [VERSION]


def test_images_are_tagged_with_it():
  pages = [
    ROOT / "docs/several_machines.md",
    *(ROOT / "docs/several_machines").iterdir(),
  ]
  texts = [path.read_text(encoding="utf-8") for path in pages]
  tags = [tag for text in texts for tag in re.findall(r"fedtiny-tff:([\w.-]+)", text)]
  assert len(tags) == 3
  assert set(tags) == {VERSION}
