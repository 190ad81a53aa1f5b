"""What is made of pip-audit's report; nothing is fetched."""

import pathlib
import re

import pytest

from tools import audit
from tools.setup_messages import SetupError

ROOT = pathlib.Path(__file__).resolve().parents[1]
_FOUND = {"id": "PYSEC-2030-1", "aliases": ["CVE-2030-7"], "fix_versions": ["2.1"]}


def _report(*packages):
  return {"dependencies": list(packages), "fixes": []}


def _package(*found):
  return {"name": "x", "version": "2.0", "vulns": list(found)}


_SKIPPED = {"name": "y", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
  ("packages", "answers", "code", "said"),
  [
    ([_package()], "", 0, "1 of 1 packages audited; 0 advisories"),
    ([_package(_FOUND)], "", 1, "x 2.0: PYSEC-2030-1, CVE-2030-7; fixed in: 2.1"),
    ([_package(_FOUND)], "see CVE-2030-7", 0, "1 advisories, 1 of them answered"),
    ([_package(_FOUND)], "see PYSEC-2030-1", 0, "1 advisories, 1 of them answered"),
    # A service that knows a package not at all has not cleared it.
    ([_package(), _SKIPPED], "", 2, "could be fetched: y"),
    ([_package(_FOUND), _SKIPPED], "", 1, "1 of 2 packages audited"),
  ],
)
def test_the_verdict(packages, answers, code, said):
  verdict = audit.judge(_report(*packages), answers)
  assert verdict.exit_code == code
  assert any(said in line for line in verdict.lines)


def test_every_service_that_fails_is_told(tmp_path, monkeypatch):
  (tmp_path / audit.ANSWERS).write_text("")
  monkeypatch.setattr(audit, "_prepare", lambda root: root)
  monkeypatch.setattr(audit, "_ask", lambda python, root, service: None)
  with pytest.raises(SetupError, match="no advisory service answers"):
    audit.audit(tmp_path)


def test_the_second_service_is_asked_where_the_first_knows_nothing(
  tmp_path, monkeypatch
):
  (tmp_path / audit.ANSWERS).write_text("")
  monkeypatch.setattr(audit, "_prepare", lambda root: root)
  reports = {"pypi": _report(_SKIPPED), "osv": _report(_package(_FOUND))}
  monkeypatch.setattr(audit, "_ask", lambda python, root, service: reports[service])
  assert audit.audit(tmp_path).exit_code == 1


def test_advisories_that_are_answered_are_named_in_full():
  text = (ROOT / audit.ANSWERS).read_text(encoding="utf-8")
  named = re.findall(r"CVE-[\d-]*", text)
  assert named
  assert all(re.fullmatch(r"CVE-20\d\d-\d{4,}", each.rstrip("-")) for each in named)
