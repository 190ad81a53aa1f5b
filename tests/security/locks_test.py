"""Whatever is installed is locked by its hash."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

from tools import audit, docs_site, setup

ROOT = pathlib.Path(__file__).resolve().parents[2]
_PIN = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[^\s;\\]+( ; [^\\]+)? \\")
_HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?")
_INSTALLERS = (
  "tools/setup_packages.py", "tools/arm64_parts.py", "tools/own_environment.py",
)  # fmt: skip


def _unlocked(text: str) -> list[str]:
  """Lists the requirements of a lock file that have no hash, and lines of another kind."""
  lines = [line for line in text.splitlines() if line.strip() and "#" not in line[:6]]
  wrong = [
    line for line in lines if not _PIN.fullmatch(line) and not _HASH.fullmatch(line)
  ]
  for line, following in zip(lines, [*lines[1:], ""], strict=True):
    if _PIN.fullmatch(line) and not _HASH.fullmatch(following):
      wrong.append(line)
  return wrong


_LOCKS = {*setup.LOCKS, *audit.LOCKS, audit.TOOL_LOCK, docs_site.LOCK}


@pytest.mark.parametrize("name", sorted(_LOCKS))
def test_every_package_is_locked_by_its_hash(name):
  text = (ROOT / name).read_text(encoding="utf-8")
  assert not _unlocked(text)
  assert len(re.findall(r"^[\w.-]+==", text, re.M)) > 10


@pytest.mark.parametrize(
  ("line", "replacement"),
  [
    ("    --hash=sha256:[0-9a-f]{64}\n", "\n"),
    ("==", ">="),
    ("sha256:", "md5:"),
    (r"\A", "https://host/x.whl\n"),
    (r"\A", "-e .\n"),
    (r"\A", "--index-url https://host\n"),
    (r"\A", "left==1.0\n"),
  ],
)
def test_what_is_not_locked_is_found(line, replacement):
  digest = "0" * 64
  text = f"six==1.17.0 \\\n    --hash=sha256:{digest}\n    # via x\n"
  assert not _unlocked(text)
  assert _unlocked(re.sub(line, replacement, text, count=1))


@pytest.mark.parametrize("name", _INSTALLERS)
def test_pip_is_told_to_check_hashes(name):
  tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
  found = {
    node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
  }  # fmt: skip
  assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= found


def test_nothing_else_installs():
  paths = [*ROOT.glob("*/*.py"), ROOT / "Makefile", ROOT / ".ci" / "run"]
  # As an argument of pip; `.ci/run` also installs Debian's packages, which are signed.
  asked = re.compile(r'"pip", "(install|download)"|pip3? install')
  found = {
    path.relative_to(ROOT).as_posix()
    for path in paths
    if asked.search(path.read_text(encoding="utf-8"))
  }
  assert found == {*_INSTALLERS}


@pytest.mark.slow
def test_a_tampered_hash_ends_the_installation(tmp_path):
  lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
  (block,) = re.findall(r"^six==[^\n]*\n(?: {4}--hash[^\n]*\n)+", lock, re.M)
  tampered = re.sub(
    r"(sha256:)(\w)", lambda m: m[1] + ("0" if m[2] != "0" else "1"), block
  )
  requirements = tmp_path / "requirements.txt"
  requirements.write_text(tampered.rstrip().rstrip("\\") + "\n")
  command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes"]
  command += ["--target", str(tmp_path / "site"), "-r", str(requirements)]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode != 0
  if "No matching distribution" in done.stderr or "Connection" in done.stderr:
    pytest.skip("the package index is out of reach")
  assert "DO NOT MATCH THE HASHES" in done.stderr
  assert not list((tmp_path / "site").glob("six*"))
