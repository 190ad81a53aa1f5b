"""What `make arm64` decides, without network and emulator."""

import json
import pathlib

import pytest

from tflite_export.arm64 import arm64_setup
from tools import arm64, arm64_parts
from tools.setup_messages import SetupError

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCK = (
  "absl-py==1.4.0 \\\n    --hash=sha256:ee\n"
  "ai-edge-litert==2.3.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
  "    # via -r requirements.in\nml-dtypes==0.2.0 \\\n    --hash=sha256:cc\n"
  "numpy==1.25.2 \\\n    --hash=sha256:dd\n    # via\n    #   tensorflow\n"
  "safetensors==0.8.0 \\\n    --hash=sha256:ff\n"
)
NAMES = ("ai-edge-litert", "numpy")


def _made_folder(folder: pathlib.Path, marker) -> pathlib.Path:
  folder.mkdir(parents=True)
  (folder / arm64.MARKER).write_text(json.dumps(marker))
  emulator = folder / "emulator"
  emulator.write_text("#!/bin/sh\n")
  emulator.chmod(0o755)
  return emulator


def test_the_package_that_reads_the_folder_means_the_same_one():
  assert arm64_setup.FOLDER == ROOT / arm64.FOLDER
  assert (arm64_setup.MARKER, arm64_setup.LAYOUT) == (arm64.MARKER, arm64.LAYOUT)


def test_this_machine_will_do():
  assert arm64.machine_problem("Linux", "x86_64", "/usr/bin/{}".format) is None


@pytest.mark.parametrize(
  ("system", "machine", "missing", "said"),
  [
    ("Linux", "aarch64", "", "Linux aarch64 is not supported"),
    ("Darwin", "x86_64", "", "Darwin x86_64 is not supported"),
    ("Linux", "x86_64", "apt-get", "apt-get not found"),
    ("Linux", "x86_64", "dpkg", "use Debian 12"),
  ],
)
def test_another_machine_is_named_in_one_line(system, machine, missing, said):
  problem = arm64.machine_problem(
    system, machine, lambda name: None if name == missing else f"/usr/bin/{name}"
  )
  assert problem
  assert said in problem
  assert "\n" not in problem


def test_packages_are_cut_out_of_the_lock_with_their_hashes():
  cut = arm64.locked_requirements(LOCK, NAMES)
  assert [line.split()[0] for line in cut.splitlines() if line[0] != " "] == [
    "ai-edge-litert==2.3.0",
    "numpy==1.25.2",
  ]
  assert [hash_ for hash_ in ("aa", "bb", "cc", "dd") if f"sha256:{hash_}" in cut] == [
    "aa",
    "bb",
    "dd",
  ]


def test_the_committed_lock_has_them():
  names = {*NAMES, "absl-py", "safetensors"}
  assert set(arm64._WHEELS) == names
  cut = arm64.locked_requirements(
    (ROOT / "requirements.txt").read_text(), sorted(names)
  )
  assert set(arm64.wanted_marker(cut)["wheels"]) == names


def test_a_package_that_is_not_locked_is_an_error():
  with pytest.raises(SetupError, match="does not lock rich"):
    arm64.locked_requirements(LOCK, ("rich",))


def test_a_finished_folder_is_left_alone(tmp_path):
  wanted = arm64.wanted_marker(LOCK)
  _made_folder(tmp_path / "arm64", {**wanted, "emulator": "emulator"})
  assert arm64.is_ready(tmp_path / "arm64", wanted)


def test_a_folder_of_another_lock_or_without_emulator_is_not_ready(tmp_path):
  wanted = arm64.wanted_marker(LOCK)
  folder = tmp_path / "arm64"
  assert not arm64.is_ready(folder, wanted)
  emulator = _made_folder(folder, {**wanted, "emulator": "emulator"})
  assert not arm64.is_ready(folder, arm64.wanted_marker(LOCK.replace("2.3.0", "2.4.0")))
  emulator.unlink()
  assert not arm64.is_ready(folder, wanted)


@pytest.mark.parametrize(
  ("output", "line"),
  [
    ("Get:1 x\nE: Unable to locate package libc6\nReading\n", "E: Unable to locate"),
    ("Looking\nERROR: No matching distribution\n\n", "ERROR: No matching"),
    ("one\ntwo\n", "two"),
    ("", "no reason given"),
  ],
)
def test_the_reason_of_a_failure_is_one_line(output, line):
  assert arm64_parts.failure_line(output).startswith(line)


def test_a_failing_program_is_named_with_what_to_do(tmp_path):
  command = ["/bin/sh", "-c", "echo 'E: no network'; exit 100"]
  with pytest.raises(SetupError) as caught:
    arm64_parts.call(command, tmp_path, "check the network")
  assert str(caught.value) == "sh failed (E: no network); check the network"
  assert caught.value.exit_code == 2


def test_the_emulated_program_finds_an_arm_cpu(tmp_path):
  arm64_parts.write_machine_files(tmp_path)
  assert "CPU part\t: 0xd0b" in (tmp_path / "proc/cpuinfo").read_text()
  assert (tmp_path / "sys/devices/system/cpu/online").read_text() == "0\n"


@pytest.fixture(name="checkout")
def fixture_checkout(tmp_path):
  """A checkout with a lock and a folder of an older one."""
  (tmp_path / "requirements.txt").write_text(LOCK)
  _made_folder(tmp_path / arm64.FOLDER, {"layout": 0})
  return tmp_path


def test_a_new_folder_takes_the_place_of_the_old_one(checkout, monkeypatch, capsys):
  def fill(fresh, work, requirements):
    (fresh / "qemu").write_text("#!/bin/sh\n")
    (fresh / "qemu").chmod(0o755)
    return "qemu"

  monkeypatch.setattr(arm64, "machine_problem", lambda *arguments: None)
  monkeypatch.setattr(arm64, "_fill", fill)
  monkeypatch.setattr(arm64, "_try", lambda *arguments: None)
  (checkout / ".cache" / "arm64.killed").mkdir()
  assert arm64.main(checkout) == 0
  assert [path.name for path in (checkout / ".cache").iterdir()] == ["arm64"]
  assert not (checkout / arm64.FOLDER / "emulator").exists()
  assert arm64.main(checkout) == 0
  assert capsys.readouterr().out.splitlines()[-1].endswith("is up to date")


@pytest.mark.parametrize(
  ("error", "code"),
  [
    (SetupError("apt-get failed"), 2),
    (OSError(28, "No space left on device"), 2),
    (KeyboardInterrupt(), 130),
  ],
)
def test_a_failure_leaves_the_old_folder(checkout, monkeypatch, capsys, error, code):
  def fill(*arguments):
    raise error

  monkeypatch.setattr(arm64, "machine_problem", lambda *arguments: None)
  monkeypatch.setattr(arm64, "_fill", fill)
  assert arm64.main(checkout) == code
  captured = capsys.readouterr()
  assert captured.err.count("\n") == 1
  assert [path.name for path in (checkout / ".cache").iterdir()] == ["arm64"]
  assert (checkout / arm64.FOLDER / "emulator").exists()


def test_without_apt_it_ends_with_one_line_and_2(checkout, monkeypatch, capsys):
  monkeypatch.setenv("PATH", str(checkout))
  assert arm64.main(checkout) == 2
  captured = capsys.readouterr()
  assert captured.err.startswith("arm64: ")
  assert captured.err.count("\n") == 1
  assert "Traceback" not in captured.err
