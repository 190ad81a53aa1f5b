"""Holds the locked packages against published advisories: what `make audit` runs.

pip-audit (https://github.com/pypa/pip-audit) asks PyPI, and where that tells nothing,
OSV. An advisory counts as answered when SECURITY.md names it.

Exit code: 0 when all advisories are answered, 1 when one is not, 2 when none could be
fetched for some package.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from tools import own_environment
from tools.setup_messages import SetupError

FOLDER = ".cache/audit"
LOCKS = ("requirements.txt", "requirements-dev.txt")
TOOL_LOCK = "requirements-audit.txt"
ANSWERS = "SECURITY.md"
_SERVICES = ("pypi", "osv")
_MOST_NAMED = 5


class Verdict(NamedTuple):
  """What a report comes to.

  Attributes:
    lines: For people.
    exit_code: Of this tool.
  """

  lines: tuple[str, ...]
  exit_code: int


def judge(report: Mapping[str, Any], answers: str) -> Verdict:
  """Reads a report of pip-audit.

  Args:
    report: In its JSON format.
    answers: Text that names every advisory that was read and answered.

  Returns:
    What to say, an unanswered advisory a line.
  """
  packages = report["dependencies"]
  skipped = [each for each in packages if "skip_reason" in each]
  lines = []
  answered = 0
  for package in packages:
    for found in package.get("vulns", ()):
      names = [found["id"], *found.get("aliases", ())]
      if any(name in answers for name in names):
        answered += 1
        continue
      mend = ", ".join(found.get("fix_versions", ())) or "none yet"
      known = ", ".join(names)
      lines.append(f"{package['name']} {package['version']}: {known}; fixed in: {mend}")
  summary = (
    f"{len(packages) - len(skipped)} of {len(packages)} packages audited; "
    f"{len(lines) + answered} advisories, {answered} of them answered in {ANSWERS}"
  )
  code = 1 if lines else 2 if skipped else 0
  if skipped:
    named = ", ".join(each["name"] for each in skipped[:_MOST_NAMED])
    more = (
      f" and {len(skipped) - _MOST_NAMED} more" if len(skipped) > _MOST_NAMED else ""
    )
    lines.append(f"not audited, as no advisories could be fetched: {named}{more}")
  return Verdict((*lines, summary), code)


def _prepare(root: pathlib.Path) -> pathlib.Path:
  """Installs pip-audit and returns its interpreter."""
  return own_environment.prepare(root, FOLDER, TOOL_LOCK)


def _ask(python: pathlib.Path, root: pathlib.Path, service: str) -> Optional[dict]:
  """Returns a service's report; None when it cannot be reached."""
  command = [str(python), "-m", "pip_audit", "--format=json", "--progress-spinner=off"]
  command += ["--require-hashes", "--disable-pip", f"--vulnerability-service={service}"]
  command += [f"--requirement={root / lock}" for lock in LOCKS]
  done = subprocess.run(
    command,
    capture_output=True,
    text=True,
    stdin=subprocess.DEVNULL,
    env={**os.environ, "PYTHONWARNINGS": "ignore"},
    check=False,
  )
  try:
    return dict(json.loads(done.stdout))
  except ValueError:
    return None


def audit(root: pathlib.Path) -> Verdict:
  """Audits a checkout.

  Raises:
    SetupError: pip-audit could not be installed, or no service answers.
  """
  python = _prepare(root)
  answers = (root / ANSWERS).read_text(encoding="utf-8")
  found = None
  for service in _SERVICES:
    report = _ask(python, root, service)
    if report is None:
      continue
    verdict = judge(report, answers)
    if verdict.exit_code != 2:
      return verdict
    found = found or verdict
  if found is None:
    raise SetupError("no advisory service answers: PyPI and OSV need the network")
  return found


def main() -> int:
  """Runs the audit for the checkout this file is in and returns the exit code."""
  try:
    verdict = audit(pathlib.Path(__file__).resolve().parents[1])
  except SetupError as error:
    print(f"audit: {error}", file=sys.stderr)
    return 2
  print("\n".join(verdict.lines))
  return verdict.exit_code


if __name__ == "__main__":
  sys.exit(main())
