"""A directory belongs to one configuration."""

import json

import pytest

from fedtiny_tff.errors import InputError
from pipelines.runs.run_directory import RunDirectory
from tests.pipelines import support
from tests.pipelines.handmade_reports import handmade_report


@pytest.fixture(name="run")
def fixture_run(tmp_path):
  return RunDirectory(tmp_path / "run")


def _claimed(run):
  made = support.make_config()
  run.check(made)
  run.claim(made)
  return made


def test_naming_and_checking_make_nothing(run, tmp_path):
  run.check(support.make_config())
  assert support.snapshot(tmp_path) == {}


def test_claiming_saves_the_flags(run):
  _claimed(run)
  assert [path.name for path in run.path.iterdir()] == ["run.flags"]
  assert "--rounds=4\n" in run.flags.read_text()


def test_the_same_configuration_may_come_again(run):
  made = _claimed(run)
  written = run.flags.stat().st_mtime_ns
  run.check(made)
  run.claim(made)
  assert run.flags.stat().st_mtime_ns == written


def test_the_place_is_no_part_of_the_configuration(run):
  _claimed(run)
  run.check(support.make_config(output_dir="elsewhere"))


def test_another_configuration_is_named_by_its_differences(run):
  _claimed(run)
  other = support.make_config(rounds=5, seed=6, dense_baseline=False)
  with pytest.raises(InputError, match="another configuration") as caught:
    run.check(other)
  message = str(caught.value)
  had, given = message.split("given is ")
  for line in ("--rounds=4", "--seed=5", "--dense_baseline"):
    assert line in had
  for line in ("--rounds=5", "--seed=6", "--nodense_baseline"):
    assert line in given
  assert "batch_size" not in message
  assert f"--flagfile={run.flags}" in message


def test_other_exports_of_a_run_are_no_other_run(run):
  _claimed(run)
  with pytest.raises(InputError, match=r"pipelines\.export --run_dir=") as caught:
    run.check(support.make_config(targets=["mcu"]))
  assert "it has --targets=android,mcu, given is --targets=mcu;" in str(caught.value)
  with pytest.raises(InputError, match="use another folder"):
    run.check(support.make_config(targets=["mcu"], rounds=5))


def test_flags_that_are_no_text_are_another_configuration(run):
  _claimed(run)
  run.flags.write_bytes(b"--rounds=4\n\xff\n")
  with pytest.raises(InputError, match="another configuration"):
    run.check(support.make_config())


@pytest.mark.parametrize("name", ["thesis.tex", ".git", ".env"])
def test_a_foreign_directory_is_refused(run, name):
  run.path.mkdir()
  (run.path / name).write_text("mine")
  with pytest.raises(InputError, match="is not empty and holds no run"):
    run.check(support.make_config())
  assert support.snapshot(run.path) == {name: b"mine"}


def test_an_empty_directory_is_taken(run):
  run.path.mkdir()
  _claimed(run)


def test_a_claim_that_was_killed_can_be_repeated(run):
  run.path.mkdir()
  (run.path / ".run.flags.abcd1234.partial").write_text("--ro")
  _claimed(run)
  assert [path.name for path in run.path.iterdir()] == ["run.flags"]


def test_hidden_files_put_there_later_are_kept(run):
  made = _claimed(run)
  (run.path / ".gitignore").write_text("*")
  run.check(made)
  run.claim(made)
  assert (run.path / ".gitignore").read_text() == "*"


def test_what_another_process_claimed_since_the_check_is_not_gone_on_with(run):
  other = support.make_config(rounds=5)
  run.check(other)
  with RunDirectory(run.path) as first:
    _claimed(first)
  before = support.snapshot(run.path)
  with pytest.raises(InputError, match="another configuration"):
    run.claim(other)
  assert support.snapshot(run.path) == before


def test_a_file_is_refused(run):
  run.path.write_text("")
  with pytest.raises(InputError, match="is a file"):
    run.check(support.make_config())


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  run = RunDirectory(tmp_path / "file" / "run")
  made = support.make_config()
  with pytest.raises(InputError, match="cannot be written"):
    run.claim(made)


def test_the_report_is_read(run):
  _claimed(run)
  report = handmade_report()
  run.report.write_text(json.dumps(report))
  assert run.read_report() == json.loads(json.dumps(report))


@pytest.mark.parametrize("content", ["[]", "{}", '{"density": 0.1}'])
def test_what_is_no_report_is_named(run, content):
  _claimed(run)
  run.report.write_text(content)
  with pytest.raises(InputError, match=r"is no report .* missing"):
    run.read_report()


@pytest.mark.parametrize(
  "content",
  [None, "", "{", pytest.param("[" * 100_000, id="deep"), r'{"density": "\ud800"}'],
)
def test_an_unreadable_report_is_named(run, content):
  _claimed(run)
  if content is not None:
    run.report.write_text(content)
  with pytest.raises(InputError, match=r"report\.json: cannot be read"):
    run.read_report()
