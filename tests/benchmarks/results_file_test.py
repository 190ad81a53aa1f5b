"""What a benchmark publishes can be read back."""

import json

from benchmarks import results_file


def test_rows_are_printed_and_written(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(results_file, "_FOLDER", tmp_path / "results")
  rows = [{"model": "a", "ratio": 0.5, "images": 1200}, {"model": "b", "ratio": 2.0, "images": 3}]
  results_file.publish("speed", rows)
  assert json.loads((tmp_path / "results" / "speed.json").read_text()) == rows
  printed = capsys.readouterr().out
  assert "speed" in printed
  assert "1,200" in printed
  assert "0.500" in printed
