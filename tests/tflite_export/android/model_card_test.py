"""The card tells what is so: which file to ship, and what each is worth."""

import dataclasses
import json

import numpy as np
import pytest

from fedtiny_tff.data.extraction import declare
from fedtiny_tff.data.preprocessing import Preprocessing
from tests.tflite_export import models
from tflite_export.android import android, handover, model_card
from tflite_export.arm64.arm64_verify import Arm64Figures
from tflite_export.runtimes import litert
from tflite_export.xnnpack import eligibility


@pytest.fixture(name="request_", scope="module")
def fixture_request():
  return models.request(*models.pruned(0.1))


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle(request_):
  return android.export_android(request_)


def _card(request, bundle, arm64=()):
  made = handover.with_handover(bundle, request, dict(arm64))
  return made.files["android/model_card.md"].decode()


def _section(card, heading):
  return card.split(f"## {heading}\n")[1].split("\n## ")[0]


def test_every_file_is_listed_with_its_figures(request_, bundle):
  rows = _section(_card(request_, bundle), "Files")
  for artifact in bundle.artifacts:
    name = artifact.path.partition("/")[2]
    (line,) = (line for line in rows.splitlines() if line.startswith(f"| `{name}`"))
    assert f"| {artifact.bytes:,} | {artifact.dense_bytes:,} |" in line
    report = eligibility.inspect(bundle.files[artifact.path])
    assert line.endswith("| yes |" if report.eligible else "| no |")


def test_what_the_provenance_says_is_told(request_, bundle):
  card = _card(request_, bundle)
  for told in ("# small_classifier", "CC0-1.0", "By chance.", "On 16 random examples."):
    assert told in card
  assert "`SmallClassifierModel.kt`" in card
  assert "10.04 % of its prunable weights" in card


def test_preprocessing_is_told_and_declared(request_, bundle):
  made = handover.with_handover(bundle, request_, {})
  known = request_.provenance.preprocessing
  section = _section(made.files["android/model_card.md"].decode(), "Preprocessing")
  assert known.in_words() in section
  document = json.loads(made.files["android/preprocessing.json"])
  assert Preprocessing.from_json(document["preprocessing"]) == known
  assert "android/preprocessing.tflite" not in made.files


def test_signals_get_a_file_that_makes_inputs(request_, bundle):
  how = Preprocessing(1.0, (0.0,), (1.0,), declare("log_mel", [400], 8000))
  provenance = dataclasses.replace(request_.provenance, preprocessing=how)
  made = handover.with_handover(
    bundle, dataclasses.replace(request_, provenance=provenance), {}
  )
  content = made.files["android/preprocessing.tflite"]
  # 1 + (400 - 240) // 160 frames; silence is the logarithm of the offset.
  silence = litert.run(content, np.zeros((1, 400), np.float32))
  np.testing.assert_allclose(silence, np.full((1, 2, 40, 1), np.log(1e-4)), rtol=1e-5)
  assert made.artifacts == bundle.artifacts


def test_accuracy_by_class_has_a_row_a_class(request_, bundle):
  rows = _section(_card(request_, bundle), "Accuracy by class").splitlines()
  named = [line.split("|")[1].strip() for line in rows if line.startswith("| class ")]
  assert named == ["class", "class 0", "class 1", "class 2", "class 3"]


def test_a_single_output_is_no_choice_of_a_class(request_, bundle):
  rows = [dataclasses.replace(each, argmax_agreement=None) for each in bundle.artifacts]
  files = _section(
    _card(request_, dataclasses.replace(bundle, artifacts=tuple(rows))), "Files"
  )
  assert "| accuracy |" in files
  assert "AUC" not in files
  assert "same class" not in files


def test_labels_cannot_break_the_table(request_, bundle):
  odd = dataclasses.replace(request_, class_names=("a|b", "line\nbreak", "", "d"))
  rows = _section(_card(odd, bundle), "Accuracy by class")
  assert "| a\\|b |" in rows
  assert "| line break |" in rows
  assert "| class 2 |" in rows


def test_what_others_have_named_cannot_become_html_or_a_link(request_, bundle):
  hostile = "<script>x</script>![y](z)\n# h"
  provenance = dataclasses.replace(
    request_.provenance,
    **dict.fromkeys(
      ("name", "licence", "method", "calibration", "evaluation"), hostile
    ),
    training={hostile: hostile},
  )
  names = tuple(f"{number}{hostile}" for number in range(models.NUM_CLASSES))
  card = _card(
    dataclasses.replace(request_, provenance=provenance, class_names=names), bundle
  )
  assert card.count("&lt;script&gt;") == 7 + models.NUM_CLASSES
  assert "<script" not in card and "![y]" not in card
  assert not [line for line in card.splitlines() if line == "# h"]


def test_without_arm_the_card_says_so(request_, bundle):
  assert "Not run on ARM" in _card(request_, bundle)
  figures = {
    artifact.path: Arm64Figures("LiteRT (emulated)", 200, 1e-7, 1.0, None, 0.5, 2.75)
    for artifact in bundle.artifacts
  }
  card = _card(request_, bundle, figures)
  assert "Not run on ARM" not in card
  assert "2.75× less work than its twin" in card
  assert "no phone's latency" in card


def test_why_zeros_are_not_used_is_told(request_, bundle):
  lines = _section(_card(request_, bundle), "Will an ARM phone use the zeros?")
  assert "`fp32_sparse.tflite`: run sparse" in lines
  assert "`int8_sparse.tflite`: not run sparse: " in lines
  request = models.autoencoder_request()
  card = _card(request, android.export_android(request))
  assert "not run sparse: it has no 1×1 convolutions" in card


def test_a_reconstruction_has_no_classes():
  request = models.autoencoder_request()
  made = handover.with_handover(android.export_android(request), request, {})
  assert "android/labels.txt" not in made.files
  # Nothing is known of its preprocessing.
  assert "android/preprocessing.json" not in made.files
  card = made.files["android/model_card.md"].decode()
  assert "gives the input again" in card
  assert "Area under the ROC curve" in card
  assert "same class" not in card


def test_without_labels_quality_is_not_known(request_, bundle):
  unlabelled = dataclasses.replace(request_, evaluation_labels=None)
  assert "Not known" in _section(_card(unlabelled, bundle), "Accuracy by class")


def test_labels_are_one_a_line(request_, bundle):
  odd = dataclasses.replace(request_, class_names=("a b", "line\nbreak", "", "d"))
  made = handover.with_handover(bundle, odd, {})
  assert made.files["android/labels.txt"] == b"a b\nline break\nclass 2\nd\n"


def test_the_verified_files_are_untouched(request_, bundle):
  made = handover.with_handover(bundle, request_, {})
  assert made.artifacts == bundle.artifacts
  assert {path: made.files[path] for path in bundle.files} == bundle.files


def test_the_first_lines_tell_what_to_ship_how_good_it_is_and_what_to_mind(
  request_, bundle
):
  made = handover.with_handover(bundle, request_, {})
  shipped = made.recommended
  assert shipped is not None
  begin = _card(request_, bundle).split("## Files")[0]
  assert f"Ship `{shipped.partition('/')[2]}` (" in begin
  assert " bytes, accuracy " in begin
  assert "within a point of the best accuracy, 100.00 %" in begin
  assert "**Mind**" not in begin
  poor = tuple(
    dataclasses.replace(each, accuracy=0.75, class_accuracy=(1.0, 0.0, 1.0, None))
    for each in bundle.artifacts
  )
  provenance = dataclasses.replace(request_.provenance, dense_quality=0.81)
  told = _card(
    dataclasses.replace(request_, provenance=provenance),
    dataclasses.replace(bundle, artifacts=poor),
  ).split("## Files")[0]
  assert "**Mind**: no example of these classes is recognised (0 %): class 1." in told
  assert "**Mind**: accuracy is 6.00 points below that of the dense model" in told


def test_errors_have_a_scale(request_, bundle):
  outputs = request_.model(request_.evaluation_inputs, training=False).numpy()
  files = _section(_card(request_, bundle), "Files")
  assert f"go from {outputs.min():.3g} to {outputs.max():.3g} on the same" in files
  unknown = dataclasses.replace(bundle, output_range=None)
  assert "outputs go from" not in _section(_card(request_, unknown), "Files")


@pytest.mark.parametrize(
  ("speedup", "told"),
  [
    (0.985, "the same work as its twin"),
    (1.0, "the same work as its twin"),
    (1.019, "the same work as its twin"),
    (1.03, "1.03× less work than its twin"),
    (0.8, "1.25× the work of its twin"),
  ],
)
def test_work_is_compared_with_the_twins(speedup, told):
  assert model_card.compared_work(speedup) == told


def test_outputs_and_raw_values_are_explained(request_, bundle):
  made = handover.with_handover(bundle, request_, {})
  card = made.files["android/model_card.md"].decode()
  section = _section(card, "Outputs")
  assert "A file gives logits, one per class" in section
  assert "`probabilities` in `SmallClassifierModel.kt` and" in section
  told = "calibration samples go from -261.3 to 474.7"
  assert told in _section(card, "Preprocessing")
  for ending in ("kt", "java"):
    text = made.files[f"android/SmallClassifierModel.{ending}"].decode()
    assert "probabilities(" in text
    in_one_line = " ".join(text.replace("*", " ").split())
    assert told in in_one_line
    assert "no probabilities until softmax is applied" in in_one_line


def test_a_model_without_zeros_is_not_called_pruned(bundle):
  request = models.request(models.small_classifier(), {})
  assert "It is not pruned" in _card(request, bundle).split("## Files")[0]
