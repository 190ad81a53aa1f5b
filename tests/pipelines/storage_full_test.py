"""A disk without space stops a run cleanly; with space again it goes on."""

import os
import shutil
import subprocess
import sys

import pytest

from pipelines import run
from tests.pipelines import equal_runs, support

_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
# Fills what is left of a small disk once the run has stored its first round.
_SCRIPT = """
set -eu
mount -t tmpfs -o size=24m tmpfs "$1"
python="$2"; flags="$3"; out="$1/run"
(
  while [ ! -e "$out/state/sparse/round_000001.state" ]; do sleep 0.01; done
  dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null || true
) &
code=0
"$python" -m pipelines.run "$flags" --output_dir="$out" || code=$?
wait
echo "first: $code" >&2
find "$out" -name '*.partial' >&2
ls "$out/state/sparse" >&2
rm "$1/filler"
mount -o remount,size=200m "$1"
"$python" -m pipelines.run "$flags" --output_dir="$out"
cp -r "$out" "$4"
"""

# Room for a part of the digits.
_DATASET_SCRIPT = """
set -eu
mount -t tmpfs -o size=64k tmpfs "$1"
code=0
"$2" -m pipelines.make_dataset --to_format="$3" --output_dir="$1/made" || code=$?
echo "ended: $code" >&2
ls -A "$1" >&2
"""


def _is_permitted() -> bool:
  if not shutil.which("unshare"):
    return False
  tried = subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False)
  return tried.returncode == 0


_NEEDS_NAMESPACES = pytest.mark.skipif(
  not _is_permitted(), reason="no rootless mount namespaces here"
)


def _in_namespace(script, *arguments):
  return subprocess.run(
    [*_NAMESPACE, "bash", "-c", script, "bash", *map(str, arguments)],
    cwd=support.ROOT, capture_output=True, text=True, check=False, env=dict(os.environ),
  )  # fmt: skip


@pytest.mark.slow
@_NEEDS_NAMESPACES
def test_everything_up_to_the_last_round_is_intact(tmp_path):
  values = {**support.TINY, "dense_baseline": "false"}
  flags = f"--flagfile={support.write_flagfile(tmp_path / 'tiny.flags', values)}"
  whole, copied, small = (tmp_path / name for name in ("whole", "copied", "small"))
  assert support.call("run", run.main, flags, f"--output_dir={whole}") == 0
  small.mkdir()
  ended = _in_namespace(_SCRIPT, small, sys.executable, flags, copied)
  assert ended.returncode == 0, ended.stderr
  first, second = ended.stderr.split("first: 5\n")
  assert "no space is left; free some and run the same command again" in first
  assert "Traceback" not in first
  assert ".partial" not in second
  assert "round_000001.state" in second
  assert "sparse: going on after" in second
  expected, found = equal_runs.results(whole), equal_runs.results(copied)
  assert [name for name in expected if found[name] != expected[name]] == []


@_NEEDS_NAMESPACES
@pytest.mark.parametrize(
  "form",
  [
    "client_sqlite",
    pytest.param("client_tfrecord", marks=pytest.mark.slow),
    pytest.param("prepared", marks=pytest.mark.slow),
  ],
)
def test_a_dataset_that_does_not_fit_leaves_nothing(tmp_path, form):
  ended = _in_namespace(_DATASET_SCRIPT, tmp_path, sys.executable, form)
  assert ended.returncode == 0, ended.stderr
  said, left = ended.stderr.split("ended: 5\n")
  assert "no space is left; free some and run the same command again" in said
  assert "Traceback" not in said
  assert left == ""
