"""Debian's Bazel builds and tests a checkout offline, and refuses what is not declared.

It needs Debian's package `bazel-bootstrap`.
"""

import pathlib
import shutil
import subprocess
import sys

import pytest

from tools import build_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
_COPIED = (
  *("WORKSPACE", ".bazelrc", ".bazelignore", "pyproject.toml"),
  *("requirements.txt", "requirements-dev.txt"),
  *("tools/__init__.py", "tools/pytest_main.py"),
  *("tools/bazel_offline/BUILD", "tools/bazel_offline/repositories.bzl"),
)
_SOURCES = {
  "fedtiny_tff/__init__.py": "",
  "fedtiny_tff/masks.py": "import numpy as np\nONES = np.ones(3)\n",
  "fedtiny_tff/strategies/__init__.py": "",
  "fedtiny_tff/strategies/snip.py": "from fedtiny_tff import masks\n",
  "tests/masks_test.py": (
    "from fedtiny_tff import masks\n\n\ndef test_sum():\n  assert masks.ONES.sum() == 3\n"
  ),
}
_BAZEL = shutil.which("bazel") or ""

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not _BAZEL, reason="no Bazel here (Debian: apt-get install bazel-bootstrap)"
  ),
]


@pytest.fixture(name="checkout")
def fixture_checkout(tmp_path):
  root = tmp_path / "checkout"
  for name in _COPIED:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, root / name)
  for name, source in _SOURCES.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(source)
  (root / ".venv").symlink_to(sys.prefix)
  assert build_files.main(root) == 0
  return root


def _test_all(root):
  """Returns Bazel's exit code and what it said."""
  command = [_BAZEL, f"--output_user_root={root.parent / 'output'}", "--batch", "test"]
  ended = subprocess.run(
    [*command, "--jobs=1", "//..."],
    cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
  )  # fmt: skip
  return ended.returncode, ended.stdout


def _add(path, target, label):
  """Adds a dependency to a target whose only one is its package."""
  text = path.read_text()
  before, after = text.split(f'name = "{target}"', 1)
  assert 'deps = [\n        ":__init__",\n' in after.split("\n)\n")[0]
  after = after.replace('":__init__",', f'":__init__",\n        "{label}",', 1)
  path.write_text(f'{before}name = "{target}"{after}')


def test_what_is_generated_passes_and_leaves_nothing_in_the_checkout(checkout):
  before = sorted(checkout.rglob("*"))
  code, said = _test_all(checkout)
  assert code == 0, said
  assert "//tests:masks_test" in said
  assert sorted(checkout.rglob("*")) == before


def test_a_missing_dependency_fails(checkout):
  path = checkout / "tests" / "BUILD"
  text = path.read_text()
  assert '"//fedtiny_tff:masks",' in text
  path.write_text(text.replace('"//fedtiny_tff:masks",', ""))
  code, said = _test_all(checkout)
  assert code == 3, said
  assert "No module named 'fedtiny_tff'" in said


def test_a_dependency_outward_fails(checkout):
  path = checkout / "fedtiny_tff" / "BUILD"
  _add(path, "masks", "//fedtiny_tff/strategies:__init__")
  code, said = _test_all(checkout)
  assert code == 1, said
  assert "is not visible from target '//fedtiny_tff:masks'" in said


def test_a_package_that_is_in_no_lock_fails(checkout):
  path = checkout / "fedtiny_tff" / "BUILD"
  _add(path, "masks", "@pypi//torch")
  code, said = _test_all(checkout)
  assert code == 1, said
  assert "no such package '@pypi//torch'" in said
