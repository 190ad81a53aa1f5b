"""A device that does what is declared feeds the model what training fed it."""

import dataclasses
import io
import json

import numpy as np
import pytest
import rich.console
import tensorflow as tf

from fedtiny_tff.data.examples import TEST, fail_on_bad_record
from fedtiny_tff.data.preprocessing import Preprocessing, apply_raw
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources.options import SourceOptions
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder
from pipelines.exports import export_stage
from pipelines.runs import model_files
from pipelines.runs.run_directory import RunDirectory
from tests.pipelines import support
from tflite_export.android import android
from tflite_export.runtimes import litert


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory):
  """A run of digits that nobody trained, exported in full precision."""
  made = support.make_untrained_run(tmp_path_factory.mktemp("preprocessing") / "run")
  run = RunDirectory(made.path)
  data = data_folder.open_folder(run.data)
  request = support.export_request(made.config, run, data)
  progress = Progress(rich.console.Console(file=io.StringIO()))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(android, "ANDROID_FORMATS", android.ANDROID_FORMATS[:2])
    _, failures = export_stage.export_all(
      ["android"], request, run.export, progress, export_stage.ExportSteps()
    )
  assert failures == []
  return run


@pytest.fixture(name="evaluated", scope="module")
def fixture_evaluated(run):
  """Inputs, labels and outputs as `pipelines.evaluate` has them."""
  model, _ = model_files.load(run.model)
  task = model_files.read_task(run.model)
  inputs, labels = data_folder.read_test(data_folder.open_folder(run.data), task)
  return inputs, labels, model.predict(inputs, batch_size=256, verbose=0)


@pytest.fixture(name="declared", scope="module")
def fixture_declared(run):
  text = (run.export / "android/preprocessing.json").read_text()
  return Preprocessing.from_json(json.loads(text)["preprocessing"])


def _raw_samples():
  digits = sources.load("digits", SourceOptions())
  batches = list(digits.read(TEST, fail_on_bad_record))
  return (
    np.concatenate([batch.features for batch in batches]),
    np.concatenate([batch.labels for batch in batches]),
  )


def test_raw_samples_as_declared_are_the_pipelines_evaluation(run, evaluated, declared):
  raw, labels = _raw_samples()
  assert raw.dtype == np.uint8
  inputs = apply_raw(declared, tf.constant(raw)).numpy()
  np.testing.assert_array_equal(inputs, evaluated[0])
  np.testing.assert_array_equal(labels, evaluated[1])
  content = (run.export / "android/fp32_sparse.tflite").read_bytes()

  def error(how):
    """Largest difference as a share of the largest output."""
    outputs = litert.run(content, apply_raw(how, tf.constant(raw)).numpy())
    return np.abs(outputs - evaluated[2]).max() / np.abs(evaluated[2]).max()

  assert error(declared) < 1e-5
  # Another mean, or another scale, would be found out.
  assert error(dataclasses.replace(declared, mean=(declared.mean[0] + 0.01,))) > 1e-3
  assert error(dataclasses.replace(declared, scale=1 / 15)) > 1e-3


def test_card_and_code_say_the_same(run, declared):
  assert declared.in_words() == (
    "(raw * 0.0625 - mean) / deviation, mean 0.3, deviation 0.38"
  )
  assert declared.in_words() in (run.export / "android/model_card.md").read_text()
  for name in ("DigitsCnnModel.java", "DigitsCnnModel.kt"):
    text = (run.export / "android" / name).read_text()
    assert "SCALE = 0.0625f" in text
    assert "0.38f" in text
