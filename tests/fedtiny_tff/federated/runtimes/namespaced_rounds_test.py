"""Three workers in network namespaces, one killed and one cut off in mid-round."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = pathlib.Path(__file__).parents[4]
ENTER = ["unshare", "--user", "--map-root-user", "--net"]
# What the scenario needs beside a namespace.
TRY = "unshare --net true && ip link add cable type veth peer name other && ip link"


def obstacle() -> str:
  """Says why the scenario cannot be set up here; empty when it can."""
  for tool in ("unshare", "nsenter", "ip"):
    if shutil.which(tool) is None:
      return f"{tool} is not installed"
  tried = subprocess.run(
    [*ENTER, "sh", "-c", TRY], capture_output=True, text=True, check=False
  )
  return tried.stderr.strip() if tried.returncode else ""


def test_a_round_survives_a_killed_and_a_cut_off_worker():
  if reason := obstacle():
    pytest.skip(f"network namespaces are not permitted: {reason}")
  ended = subprocess.run(
    [*ENTER, sys.executable, "-m", "tests.fedtiny_tff.federated.runtimes.namespaced_rounds"],
    cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, timeout=600, check=True,
  )  # fmt: skip
  assert json.loads(ended.stdout.splitlines()[-1]) == {
    "same": True,
    "answering": [2],
    "back": [0, 1, 2],
    "same_later": [True, True],
  }
