"""The installed wheel does the main job where there is no checkout."""

import os
import pathlib
import subprocess
import sys
import sysconfig

import pytest

from tools import dist

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRESET = "--flagfile=pipelines/presets/digits.flags"
SHORT = ("--rounds=6", "--adjust_every_rounds=2", "--adjust_until_round=5")

pytestmark = pytest.mark.slow


class Installation:
  """The wheel beside the packages of this environment, and an empty folder to work in."""

  def __init__(self, folder: pathlib.Path) -> None:
    self.site = folder / "site"
    self.work = folder / "work"
    self.home = folder / "home"
    for each in (self.work, self.home):
      each.mkdir()
    _, wheel = dist.build(ROOT, folder / "dist")
    command = [
      sys.executable,
      "-m",
      "pip",
      "install",
      "--quiet",
      "--no-deps",
      "--no-index",
    ]
    command += ["--disable-pip-version-check", "--target", str(self.site), str(wheel)]
    subprocess.run(command, check=True)

  def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` and returns how it ended."""
    path = [str(self.site), sysconfig.get_path("purelib")]
    environment = {
      "HOME": str(self.home),
      "PATH": os.defpath,
      "PYTHONPATH": os.pathsep.join(path),
    }
    # Without `site`, `.venv/` does not lead to the checkout; -P leaves out the work folder.
    return subprocess.run(
      [sys.executable, "-S", "-P", *arguments],
      cwd=self.work,
      env=environment,
      capture_output=True,
      text=True,
      stdin=subprocess.DEVNULL,
      timeout=900,
      check=False,
    )

  def fedtiny(self, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the installed command."""
    return self(str(self.site / "bin" / "fedtiny"), *arguments)


@pytest.fixture(name="installed", scope="module")
def fixture_installed(tmp_path_factory):
  return Installation(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(name="run", scope="module")
def fixture_run(installed):
  ended = installed.fedtiny("run", PRESET, *SHORT, "--output_dir=runs/digits")
  assert ended.returncode == 0, ended.stderr
  return installed.work / "runs" / "digits"


def test_the_packages_are_those_of_the_wheel(installed):
  code = "import pipelines, tflite_export, fedtiny_tff as f; print(pipelines.__file__, f.__file__)"
  ended = installed("-c", code)
  assert ended.stdout.split() == [
    str(installed.site / name / "__init__.py") for name in ("pipelines", "fedtiny_tff")
  ]


def test_the_main_job_runs(run):
  assert (run / "report.html").stat().st_size > 10_000
  assert (run / "export/android/fp16_sparse.tflite").is_file()
  assert (run / "export/mcu/model.tflite").is_file()
  for path in ("report.json", "run.flags", "report.html"):
    assert str(ROOT) not in (run / path).read_text(encoding="utf-8")


def test_what_follows_a_run_needs_no_checkout(installed, run):
  export = installed(
    "-m", "pipelines.export", f"--run_dir={run}", "--targets=device_client"
  )
  assert export.returncode == 0, export.stderr
  assert list((run / "export" / "device_client").rglob("Philox.kt"))
  (run / "report.html").unlink()
  assert installed.fedtiny("report", str(run)).returncode == 0
  assert (run / "report.html").is_file()


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["--help"], "Commands:"),
    (["completion", "bash"], "complete "),
    (["run", "--dry_run", PRESET, "--output_dir=x"], "Nothing was trained"),
    (["doctor"], "tff worker"),
  ],
)
def test_the_command_works(installed, arguments, said):
  ended = installed.fedtiny(*arguments)
  assert ended.returncode == 0, ended.stderr
  assert said in ended.stdout


def test_a_preset_that_is_not_there_ends_in_one_line(installed):
  ended = installed.fedtiny(
    "run", "--flagfile=pipelines/presets/no.flags", "--output_dir=x"
  )
  assert ended.returncode == 2
  assert ended.stderr.count("\n") == 1
  assert f"such as a preset of {installed.site}/pipelines/presets/" in ended.stderr
