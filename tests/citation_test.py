"""CITATION.cff holds what its format asks for, and the version that is here.

https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema-guide.md
"""

import datetime
import pathlib

import pytest
import yaml  # type: ignore[import-untyped]

from fedtiny_tff.version import VERSION

ROOT = pathlib.Path(__file__).resolve().parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
_REQUIRED = {"authors", "cff-version", "message", "title"}
_OPTIONAL = {"abstract", "date-released", "keywords", "license", "references", "type"}
_OPTIONAL |= {"version", "url", "repository-code", "identifiers", "preferred-citation"}


def _problems(citation):
  """Lists what a citation lacks of the format 1.2.0, or says wrongly."""
  references = citation.get("references", [])
  people = [
    each for work in (citation, *references) for each in work.get("authors", [])
  ]
  wanted = {
    "required keys": citation.keys() >= _REQUIRED,
    "known keys": citation.keys() <= _REQUIRED | _OPTIONAL,
    "format": citation.get("cff-version") == "1.2.0",
    "version": citation.get("version") == VERSION,
    "date": bool(datetime.date.fromisoformat(citation["date-released"])),
    "references": all(
      {"authors", "title", "type"} <= each.keys() for each in references
    ),
    # A person has a family name, whatever else has one name.
    "authors": bool(people)
    and all(("name" in each) != ("family-names" in each) for each in people),
  }
  return [name for name, holds in wanted.items() if not holds]


def test_it_is_as_the_format_says():
  assert _problems(CITATION) == []


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"message": None}, "required keys"),
    ({"licence": "Apache-2.0"}, "known keys"),
    ({"cff-version": "1.1.0"}, "format"),
    ({"version": "0.0.9"}, "version"),
    ({"references": [{"title": "x", "authors": []}]}, "references"),
    ({"authors": [{"given-names": "Ann"}]}, "authors"),
  ],
)
def test_what_is_wrong_is_found(change, said):
  changed = {key: value for key, value in {**CITATION, **change}.items() if value}
  assert _problems(changed) == [said]


def test_its_date_is_that_of_the_changelog():
  changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
  assert f"\n## {VERSION} - {CITATION['date-released']}\n" in changelog


def test_the_paper_is_cited_as_the_readme_does():
  (paper,) = CITATION["references"]
  assert paper["url"] in (ROOT / "README.md").read_text(encoding="utf-8")
  assert len(paper["authors"]) == 6
  assert CITATION["license"] == "Apache-2.0"
