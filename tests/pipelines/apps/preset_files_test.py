"""Presets are found from every folder, and nothing else is taken for one."""

import pathlib

import pytest

from pipelines.apps import preset_files

DIGITS = "pipelines/presets/digits.flags"
INSTALLED = str(preset_files.PRESETS / "digits.flags")


@pytest.mark.parametrize(
  ("given", "found"),
  [
    ([f"--flagfile={DIGITS}"], [f"--flagfile={INSTALLED}"]),
    ([f"-flagfile={DIGITS}", "--rounds=3"], [f"-flagfile={INSTALLED}", "--rounds=3"]),
    (["--flagfile", DIGITS], ["--flagfile", INSTALLED]),
    ([f"--flagfile={DIGITS}"] * 2, [f"--flagfile={INSTALLED}"] * 2),
  ],
)
def test_a_preset_is_found_where_it_is_installed(given, found, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert preset_files.located(given) == found


@pytest.mark.parametrize(
  "given",
  [
    ["--flagfile=pipelines/presets/none.flags"],
    ["--flagfile=digits.flags"],
    ["--flagfile=pipelines/presets/"],
    ["--flagfile=pipelines/presets/../report.schema.json"],
    ["--flagfile="],
    ["--flagfile"],
    [DIGITS],
    [f"--output_dir={DIGITS}"],
    ["--", f"--flagfile={DIGITS}"],
  ],
)
def test_nothing_else_is_changed(given, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert preset_files.located(given) == given


def test_a_file_of_the_working_folder_goes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  own = pathlib.Path(DIGITS)
  own.parent.mkdir(parents=True)
  own.write_text("--rounds=1\n")
  given = [f"--flagfile={DIGITS}"]
  assert preset_files.located(given) == given
