"""Each check in both directions, and the program's exit codes and formats."""

import json
import pathlib
import subprocess
import sys

import pytest

from pipelines import doctor

ROOT = pathlib.Path(__file__).resolve().parents[2]
GIB = 2**30


def _statuses(findings):
  return [item.status.value for item in findings]


def _run(*arguments, interpreter_flags=()):
  return subprocess.run(
    [sys.executable, *interpreter_flags, "-m", "pipelines.doctor", *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  ("version", "system", "machine", "statuses"),
  [
    ((3, 11, 7), "Linux", "x86_64", ["ok", "ok"]),
    ((3, 12, 0), "Linux", "x86_64", ["problem", "ok"]),
    ((3, 11, 0), "Linux", "aarch64", ["ok", "problem"]),
    ((3, 11, 0), "Darwin", "x86_64", ["ok", "problem"]),
  ],
)
def test_python_and_platform(version, system, machine, statuses):
  assert _statuses(doctor.check_python(version, system, machine)) == statuses


def test_locked_versions_are_read_without_hashes_and_comments():
  text = (
    "# six==0\nsix==1.17.0 \\\n    --hash=sha256:ab\n    # via x==1\n"
    'tf-nightly==2.0.dev1 ; python_version < "3.12" \\\n'
  )
  assert doctor.locked_versions(text) == {"six": "1.17.0", "tf-nightly": "2.0.dev1"}


def test_the_committed_lock_is_read_whole():
  text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
  locked = doctor.locked_versions(text)
  assert locked["tensorflow-federated"] == "0.87.0"
  assert len(locked) == sum("==" in line for line in text.splitlines())


def test_packages_as_locked_are_one_line():
  locked = {"six": "1.17.0", "numpy": "1.25.2"}
  [finding] = doctor.check_packages(locked, locked.get)
  assert finding.message == "2 as locked"


def test_only_wrong_packages_are_named():
  locked = {"six": "1.17.0", "numpy": "1.25.2", "rich": "15.0.0"}
  findings = doctor.check_packages(locked, {"six": "1.17.0", "numpy": "2.0.0"}.get)
  assert [item.message for item in findings] == [
    "numpy is 2.0.0, locked 1.25.2: run `make setup`",
    "rich 15.0.0 is missing: run `make setup`",
  ]
  assert doctor.has_problem(findings)


def test_a_package_that_is_not_installed_has_no_version():
  assert doctor.installed_version("absl-py")
  assert doctor.installed_version("no-such-package-here") is None


@pytest.mark.parametrize(
  ("cpu_max", "limit"),
  [("max 100000\n", None), ("150000 100000\n", 1.5), ("", None), ("junk", None)],
)
def test_a_core_limit_is_read(cpu_max, limit):
  assert doctor.cpu_limit(cpu_max) == limit


def test_cores_name_the_limit_only_when_there_is_one():
  assert doctor.check_cores(8, "max 100000")[0].message == "8"
  assert doctor.check_cores(8, "200000 100000")[0].message == (
    "8, limited to the time of 2"
  )


@pytest.mark.parametrize(
  ("meminfo", "limit", "used", "expected"),
  [
    ("MemTotal: 9 kB\nMemAvailable:   2048 kB\n", "", "", 2048 * 1024),
    ("MemAvailable: 2048 kB\n", "max\n", "5\n", 2048 * 1024),
    ("MemAvailable: 2048 kB\n", "1000\n", "400\n", 600),
    ("MemAvailable: 2048 kB\n", "400\n", "1000\n", 0),
    ("", "", "", None),
  ],
)
def test_the_smaller_of_machine_and_group_memory_counts(meminfo, limit, used, expected):
  assert doctor.available_memory_bytes(meminfo, limit, used) == expected


@pytest.mark.parametrize(
  ("available", "status"), [(2 * GIB, "ok"), (2 * GIB - 1, "problem"), (None, "note")]
)
def test_memory(available, status):
  assert _statuses(doctor.check_memory(available)) == [status]


@pytest.mark.parametrize(
  ("free", "status"), [(2 * GIB, "ok"), (2 * GIB - 1, "problem")]
)
def test_disk(free, status):
  assert _statuses(doctor.check_disk(free)) == [status]


@pytest.mark.parametrize(
  ("cpu_flags", "status", "said"),
  [
    ("fpu avx512_bf16 amx_bf16", "ok", "AMX and AVX512-BF16"),
    ("fpu avx512_bf16", "ok", "has AVX512-BF16"),
    ("fpu avx512f amx_int8", "note", "float32"),
    ("", "note", "float32"),
  ],
)
def test_bfloat16(cpu_flags, status, said):
  [finding] = doctor.check_bfloat16(f"model name\t: x\nflags\t\t: {cpu_flags}\n")
  assert finding.status.value == status
  assert said in finding.message


def test_a_missing_optional_tool_is_no_problem():
  findings = doctor.check_tools({"g++": "/usr/bin/g++"}.get)
  assert _statuses(findings) == ["ok", "note", "note"]
  assert not doctor.has_problem(findings)


def test_emulated_arm64_is_optional():
  [ready] = doctor.check_arm64("")
  [missing] = doctor.check_arm64("not set up: run `make arm64`")
  assert _statuses([ready, missing]) == ["ok", "note"]
  assert missing.message.endswith("run `make arm64`")


def test_worker(tmp_path):
  binary = tmp_path / "worker_binary"
  assert _statuses(doctor.check_worker(None)) == ["problem"]
  assert "is missing" in doctor.check_worker(binary)[0].message
  binary.write_text("")
  binary.chmod(0o644)
  assert "not executable" in doctor.check_worker(binary)[0].message
  binary.chmod(0o755)
  assert _statuses(doctor.check_worker(binary)) == ["ok"]


def test_every_problem_says_how_to_mend_it(tmp_path):
  findings = [
    *doctor.check_python((3, 13, 0), "Darwin", "arm64"),
    *doctor.check_packages({"six": "1"}, lambda name: None),
    *doctor.check_worker(None),
    *doctor.check_worker(tmp_path / "gone"),
    *doctor.check_memory(0),
    *doctor.check_disk(0),
  ]
  assert _statuses(findings) == ["problem"] * len(findings)
  assert all(": " in item.message for item in findings)


def test_text_is_one_aligned_line_each():
  findings = [
    doctor.Finding("a", doctor.Status.OK, "fine"),
    doctor.Finding("long name", doctor.Status.PROBLEM, "bad: mend it"),
  ]
  assert doctor.render(findings, "text").splitlines() == [
    "ok       a          fine",
    "problem  long name  bad: mend it",
  ]


def test_json_tells_whether_all_is_well():
  good = doctor.Finding("a", doctor.Status.NOTE, "fine")
  bad = doctor.Finding("b", doctor.Status.PROBLEM, "bad")
  assert json.loads(doctor.render([good], "json")) == {
    "ok": True,
    "findings": [{"name": "a", "status": "note", "message": "fine"}],
  }
  assert not json.loads(doctor.render([good, bad], "json"))["ok"]


def test_the_program_agrees_with_its_exit_code_and_imports_no_tensorflow():
  done = _run("--format=json", interpreter_flags=("-X", "importtime"))
  answer = json.loads(done.stdout)
  assert done.returncode == (0 if answer["ok"] else 2)
  assert "tensorflow" not in done.stderr
  assert "absl.flags" in done.stderr


@pytest.mark.parametrize("argument", ["--format=xml", "--no_such_flag", "stray"])
def test_a_wrong_call_ends_with_one_line_and_2(argument):
  done = _run(argument)
  assert done.returncode == 2
  assert done.stdout == ""
  assert done.stderr.startswith("doctor: ")
  assert done.stderr.count("\n") == 1


def test_without_packages_it_says_what_to_run():
  done = _run(interpreter_flags=("-S",))
  assert done.returncode == 2
  assert "make setup" in done.stderr
  assert done.stderr.count("\n") == 1
