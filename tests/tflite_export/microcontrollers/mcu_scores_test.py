"""From where on an autoencoder's score is odd, by samples that are not judged on."""

import dataclasses

import numpy as np
import pytest

from tests.tflite_export import models
from tests.tflite_export.cpp import run_program, write
from tflite_export.file_format.activation_ranges import ActivationRanges
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers import c_source, mcu, mcu_scores
from tflite_export.runtimes import tflm


@pytest.fixture(name="request_", scope="module")
def fixture_request():
  request = models.autoencoder_request()
  samples = np.random.default_rng(8).normal(size=(100, 4, 4)).astype(np.float32)
  return dataclasses.replace(request, calibration=samples)


@pytest.fixture(name="files", scope="module")
def fixture_files(request_):
  return mcu.export_mcu(request_).files


def _expected(content, samples):
  """Returns scores, worked out from what the file stores."""
  graph = read_model(content).subgraphs[0]
  source = graph.tensors[graph.inputs[0]].quantization
  scale, point = source.scale[0], source.zeroPoint[0]
  stored = np.clip(np.round(samples / scale) + point, -128, 127)
  real = (scale * (stored - point)).reshape(len(samples), 16)
  return np.square(tflm.run(content, samples).outputs - real).mean(axis=1)


def _known(content, request):
  found = mcu_scores.scores(content, request)
  assert found is not None
  return found


def test_percentiles_of_the_files_own_scores(request_, files):
  content = files["mcu/model.tflite"]
  found = _known(content, request_)
  wanted = _expected(content, request_.calibration)
  assert found.samples == 100
  assert [percent for percent, _ in found.percentiles] == [95, 99]
  for percent, score in found.percentiles:
    assert score == pytest.approx(np.percentile(wanted, percent), rel=1e-4)
  assert found.source == request_.provenance.calibration


def test_firmware_is_told(request_, files, tmp_path):
  content = files["mcu/model.tflite"]
  found = _known(content, request_)
  names = ("model_settings.h",)
  write(tmp_path, {name: files[f"mcu/{name}"].decode() for name in names})
  program = """
    #include <cstdio>
    #include "model_settings.h"
    using namespace fedtiny_model;
    int main() {
      std::printf("%.9g %.9g", static_cast<double>(kScorePercentile95),
                  static_cast<double>(kScorePercentile99));
    }
  """
  printed = run_program(tmp_path, program).split()
  assert [float(each) for each in printed] == pytest.approx(
    [score for _, score in found.percentiles]
  )
  settings, text = (files[f"mcu/{name}"].decode() for name in (*names, "README.md"))
  assert "of 100 calibration samples" in settings
  assert max(map(len, settings.splitlines())) <= 80
  assert "| of 100 calibration samples | score at most |" in text
  assert f"| 95 % | {found.percentiles[0][1]:.6g} | `kScorePercentile95` |" in text
  assert "On 16 random examples." in text
  assert "The test split has no say in it." in text


@pytest.mark.parametrize(
  ("samples", "percentages"), [(99, [95]), (20, [95]), (19, None), (0, None)]
)
def test_too_few_say_nothing(request_, files, samples, percentages):
  few = dataclasses.replace(request_, calibration=request_.calibration[:samples])
  found = mcu_scores.scores(files["mcu/model.tflite"], few)
  known = None if found is None else [percent for percent, _ in found.percentiles]
  assert known == percentages


def test_what_is_judged_on_has_no_say(request_, files):
  content = files["mcu/model.tflite"]
  own = request_.calibration[:30]
  both = np.concatenate([own, request_.evaluation_inputs])
  mixed = dataclasses.replace(request_, calibration=both)
  alone = dataclasses.replace(request_, calibration=own)
  assert mcu_scores.scores(content, mixed) == mcu_scores.scores(content, alone)
  judged = dataclasses.replace(request_, evaluation_inputs=request_.calibration)
  assert mcu_scores.scores(content, judged) is None


def test_without_samples_or_with_classes_there_are_none(request_, files):
  ranges = ActivationRanges(("a",), np.zeros(1, np.float32), np.ones(1, np.float32))
  without = dataclasses.replace(request_, calibration=ranges)
  assert mcu_scores.scores(files["mcu/model.tflite"], without) is None
  classes = models.request(*models.pruned(0.1))
  classes = dataclasses.replace(classes, calibration=models.random_inputs(40, seed=4))
  assert mcu_scores.scores(b"not read", classes) is None


@pytest.mark.parametrize("options", [McuOptions(16), McuOptions(float_ends=True)])
def test_other_numbers_score_much_the_same(request_, files, options):
  made = mcu.export_mcu(dataclasses.replace(request_, mcu=options)).files
  of_int8, other = (
    _known(each["mcu/model.tflite"], request_).percentiles for each in (files, made)
  )
  assert dict(other) == pytest.approx(dict(of_int8), rel=0.1)


def test_settings_without_scores_have_no_such_constants(files):
  content = files["mcu/model.tflite"]
  assert "kScore" not in c_source.c_sources(content, None, 1024)["model_settings.h"]
