"""Damaged `.tflite` and TFRecord files: no crash, no hang, no gigabyte.

The quick tests run some in this process; the slow ones 5,000 of each in a process of
its own, whose time per file and memory are bounded.
"""

import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from tests.pipelines import support
from tests.security import mutations, record_fuzz, tflite_fuzz
from tests.tflite_export import descriptions, eligibility_graphs, models, processes
from tflite_export.decode import tflm_decode
from tflite_export.metadata import model_metadata

_COUNT = 5_000
# TensorFlow keeps some 100 kB of each dataset that was ever opened.
_AT_A_TIME = 1_000
_MOST_MEGABYTES = 1_000
_TIMEOUT_SECONDS = 3_600


def _taken_file():
  """A file of which XNNPACK on ARM would run a part sparse, and give wrong outputs."""
  return eligibility_graphs.converted_short(
    eligibility_graphs.GRAPHS["keepdims_output"]
  )


class TestQuick:
  def test_tflite(self, tmp_path):
    with support.fresh_flags():
      flags.FLAGS(["fuzz"])
      files = [*tflite_fuzz.small_files(), _taken_file()]
      for content in files:
        assert tflite_fuzz.try_one(content, tmp_path)
      taken = tflite_fuzz.numbers_taken(files, range(100), tmp_path)
      # Some damage is to weights, or to what nothing checks.
      assert 10 < taken < 90
      # Noise is no file.
      for number in range(20):
        assert not tflite_fuzz.try_one(tflite_fuzz.random_file(number), tmp_path)

  def test_records(self, tmp_path):
    examples, bad = record_fuzz.try_numbers(record_fuzz.kinds(), range(80), tmp_path)
    assert examples > 80
    assert bad > 20

  def test_a_number_gives_the_same_file_again(self):
    files = tflite_fuzz.small_files()
    made = [tflite_fuzz.damaged(files, number) for number in range(20)]
    assert made == [tflite_fuzz.damaged(files, number) for number in range(20)]
    assert len(set(made)) > 10

  def test_whatever_else_is_raised_is_found(self, tmp_path, monkeypatch):
    def fail(content):
      raise IndexError("planted")

    monkeypatch.setattr(tflite_fuzz, "_PARSERS", (fail,))
    with support.fresh_flags(), pytest.raises(IndexError, match="planted"):
      flags.FLAGS(["fuzz"])
      tflite_fuzz.try_one(tflite_fuzz.small_files()[0], tmp_path)

  def test_nothing_is_too_short_to_damage(self):
    generator = np.random.default_rng(0)
    for content in (b"", b"a", b"abcd") * 200:
      mutations.mutated(content, [content], generator)


def test_foreign_files_meet_no_native_interpreter():
  """LiteRT and TFLM can crash on bytes made to harm them, so they never see such."""
  modules = ["pipelines.inspect", "tflite_export.xnnpack.eligibility"]
  modules += ["tflite_export.metadata.model_metadata_reader"]
  loaded = processes.loaded_by(
    modules, ("ai_edge_litert", "tflite_micro", "tensorflow")
  )
  assert set(loaded) <= {"ai_edge_litert", "ai_edge_litert.schema_py_generated"}


def _run(kind, folder):
  """Runs children; returns the sums of what they count, and the largest peak in MB."""
  counts = []
  for first in range(0, _COUNT, _AT_A_TIME):
    command = [sys.executable, "-m", "tests.security.fuzz_child", kind, str(folder)]
    done = subprocess.run(
      [*command, str(first), str(first + _AT_A_TIME)],
      cwd=support.ROOT, capture_output=True, text=True, errors="replace",
      timeout=_TIMEOUT_SECONDS, check=False,
    )  # fmt: skip
    at = folder / "at"
    where = at.read_text() if at.exists() else "the start"
    told = f"{kind} {where}: ended with {done.returncode}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, told
    counts.append([int(number) for number in done.stdout.split()])
  *sums, peaks = zip(*counts, strict=True)
  print(f"{kind}: {_COUNT} files, {[sum(each) for each in sums]}, {max(peaks)} MB")
  return *map(sum, sums), max(peaks)


@pytest.mark.slow
def test_five_thousand_tflite_files(tmp_path):
  (tmp_path / "seeds").mkdir()
  converted = [models.converted(each, 0.2) for each in ("fp32_dense", "int8_dense")]
  files = [
    *tflite_fuzz.small_files(),
    *converted,
    models.converted("fp32_sparse", 0.2),
    _taken_file(),
    tflm_decode.encode_pruned(converted[1]).model_bytes,
    model_metadata.attach(converted[0], descriptions.description()),
  ]
  for number, content in enumerate(files):
    (tmp_path / "seeds" / f"{number}.tflite").write_bytes(content)
  taken, megabytes = _run("tflite", tmp_path)
  assert 500 < taken < 4_500
  assert megabytes < _MOST_MEGABYTES


@pytest.mark.slow
def test_five_thousand_record_files(tmp_path):
  examples, bad, megabytes = _run("records", tmp_path)
  assert examples > 5_000
  assert bad > 2_000
  assert megabytes < _MOST_MEGABYTES


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["while True: pass", "os.abort()"])
def test_a_hang_and_a_crash_are_found(tmp_path, planted):
  program = (
    "import os, pathlib, sys; from tests.security import fuzz_child, tflite_fuzz\n"
    f"def planted(content):\n  {planted}\n"
    "tflite_fuzz._PARSERS = (planted,)\n"
    "fuzz_child.main('tflite', sys.argv[1], '0', '3')"
  )
  (tmp_path / "seeds").mkdir()
  (tmp_path / "seeds" / "a").write_bytes(tflite_fuzz.small_files()[0])
  done = subprocess.run(
    [sys.executable, "-c", program, str(tmp_path)],
    cwd=support.ROOT, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False,
  )  # fmt: skip
  assert done.returncode < 0
  assert (tmp_path / "at").read_text() == "0"
