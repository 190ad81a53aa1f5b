"""Figures of a dataset that is counted by hand, and their warnings."""

import json

import numpy as np
import pytest

from fedtiny_tff.data import examples
from fedtiny_tff.data.examples import TEST, TRAIN
from pipelines.datasets import data_inspection
from tests.pipelines.datasets import inspected_data


@pytest.fixture(name="document", scope="module")
def fixture_document():
  return inspected_data.inspect()


def test_facts(document):
  assert document["format"] == "fedtiny-data-inspection"
  assert document["version"] == 1
  facts = document["dataset"]
  assert facts["shape"] == [2]
  assert facts["feature_type"] == "uint8"
  assert facts["classes"] == ["a", "b", "c"]
  assert facts["largest_value_expected"] == 8.0
  assert facts["preprocessing"]["scale"] == 1 / 8


def test_it_is_json(document):
  assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_classes(document):
  assert document["splits"][TRAIN]["examples_by_class"] == [4, 4, 0]
  assert document["splits"][TEST]["examples_by_class"] == [1, 1, 0]
  assert document["missing_classes"] == {TRAIN: ["c"], TEST: ["c"]}
  # 8 / (3 * 4) twice, and nothing for a class without examples.
  assert document["class_weights"] == pytest.approx([2 / 3, 2 / 3, 0.0])


def test_weights_make_classes_equal():
  counts = np.array([1, 3, 0, 6])
  everything = np.ones(4, bool)
  weights = data_inspection.class_weights(counts, everything)
  np.testing.assert_allclose(weights, [10 / 4, 10 / 12, 0, 10 / 24])
  without_last = np.array([True, True, True, False])
  np.testing.assert_allclose(
    data_inspection.class_weights(counts, without_last), [4 / 3, 4 / 9, 0, 0]
  )


def test_duplicates(document):
  train, test = (document["splits"][split]["duplicates"] for split in (TRAIN, TEST))
  # (2, 4) and (8, 2) occur twice, the first with both labels; (8, 2) in the test too.
  assert train == {
    "within": 2,
    "within_share": 2 / 8,
    "with_another_label": 1,
    "in_other_split": 2,
    "in_other_split_share": 2 / 8,
  }
  assert (test["within"], test["in_other_split"]) == (0, 1)
  assert test["in_other_split_share"] == 1 / 2
  assert document["duplicates_left_out"]["of_test"] == 2
  assert document["nobodys_training_examples"] == 2


def test_public_samples(document):
  assert document["public"] == {"examples": 1, "examples_by_class": [1, 0, 0]}


def test_features(document):
  found = document["splits"][TRAIN]["features"]
  values = np.array(inspected_data.FEATURES[TRAIN])
  assert (found["minimum"], found["maximum"]) == (0.0, 8.0)
  assert found["mean"] == pytest.approx(values.mean())
  assert found["by_channel"][1] == pytest.approx(
    {"minimum": 0, "maximum": 6, "mean": 2.5, "deviation": values[:, 1].std()}
  )
  # (0, 0) and (6, 6).
  assert found["constant_examples"] == 2
  assert found["constant_channels"] == []


def test_rejected_records_are_counted_and_the_first_named():
  document = inspected_data.inspect(bad=25)
  found = document["rejected"]
  assert found["count"] == 25
  assert found["by_split"] == {TRAIN: 25, TEST: 0}
  assert [record["record"] for record in found["first"]] == list(range(20))
  assert found["first"][0] == {
    "file": "a.csv", "record": 0, "field": "x", "reason": "is empty",
  }  # fmt: skip


def test_a_test_split_without_examples():
  source = inspected_data.dataset(
    features={**inspected_data.FEATURES, TEST: []},
    labels={**inspected_data.LABELS, TEST: []},
  )
  document = inspected_data.inspect(source)
  json.dumps(document, allow_nan=False)
  found = document["splits"][TEST]
  assert found["examples"] == 0
  assert found["features"]["minimum"] is found["features"]["mean"] is None
  assert found["duplicates"]["within_share"] == 0.0


def test_anomalies_are_nobodys():
  document = inspected_data.inspect(anomalies=(2,))
  assert document["dataset"]["anomaly_classes"] == ["c"]
  # 8 / (2 * 4): only two classes are trained on.
  assert document["class_weights"] == pytest.approx([1.0, 1.0, 0.0])


def test_rejected_of_both_splits():
  bad = examples.BadRecord("b.csv", "key", None, "is NaN")
  found = data_inspection.rejected({TRAIN: [], TEST: [bad]})
  assert found.count == {TRAIN: 0, TEST: 1}
  assert found.first[0]["file"] == "b.csv"
