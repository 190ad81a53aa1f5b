"""The gate on the lines that tests run."""

import json

import pytest

from tools import coverage_gate


def _file(lines, run, branches=4, taken=3):
  return {
    "summary": {
      "num_statements": lines,
      "covered_lines": run,
      "num_branches": branches,
      "covered_branches": taken,
    }
  }


def _report(**files):
  full = {"fedtiny_tff/full.py": _file(10, 10), "tflite_export/full.py": _file(10, 10)}
  return {"files": {**full, **{f"fedtiny_tff/{k}.py": v for k, v in files.items()}}}


@pytest.mark.parametrize(
  ("run", "error"),
  [
    # 10 + 80 of 100 lines, then one fewer.
    (80, ""),
    (
      79,
      "lines run by tests: fedtiny_tff 89.0 %, less than 90 %; add tests of the "
      "modules above",
    ),
  ],
)
def test_the_gate_is_on_lines(run, error):
  # No branch of it is taken, which changes nothing.
  verdict = coverage_gate.judge(_report(some=_file(90, run, 100, 0)))
  assert verdict.error == error


def test_a_share_just_below_the_gate_does_not_look_like_it():
  # 89 999 of 100 000 lines.
  verdict = coverage_gate.judge(_report(some=_file(99990, 89989)))
  assert "fedtiny_tff 89.9 %" in verdict.error


def test_each_library_is_held_against_it():
  report = _report()
  report["files"]["tflite_export/other.py"] = _file(90, 0)
  verdict = coverage_gate.judge(report)
  assert "tflite_export 10.0 %" in verdict.error
  assert "fedtiny_tff" not in verdict.error


def test_a_library_that_was_not_traced_does_not_pass():
  assert "tflite_export none" in coverage_gate.judge({"files": {}}).error


def test_the_modules_that_miss_most_lines_come_first_and_equal_ones_by_name():
  few = {f"m{number:02}": _file(10, 9) for number in range(12)}
  lines = coverage_gate.judge(_report(zero=_file(10, 5), **few)).lines
  # 10 + 5 + 12 * 9 of 10 + 10 + 120.
  assert lines[0] == "fedtiny_tff: lines 87.8 % (123 of 140), branches 75.0 %"
  assert [line.split(":")[0].strip() for line in lines[2:]] == [
    "fedtiny_tff/zero.py",
    *(f"fedtiny_tff/m{number:02}.py" for number in range(9)),
  ]
  assert "full.py" not in "".join(lines)


def test_the_exit_codes(tmp_path, capsys):
  path = tmp_path / "coverage.json"
  assert coverage_gate.main([str(path)]) == 2
  assert capsys.readouterr().err.endswith("; run `make coverage`\n")
  for report, code in ((_report(), 0), (_report(some=_file(90, 0)), 1)):
    path.write_text(json.dumps(report))
    assert coverage_gate.main([str(path)]) == code
  # Without branches there is nothing to show.
  path.write_text('{"files": {"a.py": {"summary": {"num_statements": 1}}}}')
  assert coverage_gate.main([str(path)]) == 2
