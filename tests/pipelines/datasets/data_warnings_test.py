"""Each warning where it belongs, and none elsewhere."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest

from fedtiny_tff.data import federation
from fedtiny_tff.data.examples import TEST, TRAIN
from pipelines.datasets import data_warnings
from tests.pipelines.datasets import inspected_data


@pytest.fixture(name="quiet", scope="module")
def fixture_quiet():
  """A document about which nothing is to be said."""
  info = dataclasses.replace(inspected_data.INFO, class_names=("a", "b"))
  features = {
    TRAIN: [(row, row + 1) for row in range(8)],
    TEST: [(0, 8), (1, 8)],
  }
  labels = {TRAIN: [0, 1] * 4, TEST: [0, 1]}
  assigned = federation.Federation(
    np.array([0, 1]), (np.array([2, 3]),), (np.array([4, 5]),), np.arange(1)
  )
  source = inspected_data.dataset(info, features, labels)
  return inspected_data.inspect(source, assigned, owners=[0, 0])


def test_nothing_to_say(quiet):
  assert quiet["warnings"] == []


CASES = {
  "bad_records": (
    ("rejected", "count"),
    2,
    "2 records cannot be used; a run needs --on_bad_record=skip to leave them out",
  ),
  "no_test_split": (
    ("splits", TEST, "examples"),
    0,
    "the test split is empty: no model can be judged on it",
  ),
  "no_test_example": (
    ("missing_classes", TEST), ["a"], "class 'a' has no test example"
  ),
  "no_training_example": (
    ("missing_classes", TRAIN),
    ["a", "b", "c", "d", "e", "f"],
    "classes 'a', 'b', 'c', 'd', 'e' and 1 more have no training example",
  ),
  "imbalance": (
    ("splits", TRAIN, "examples_by_class"),
    [4, 41],
    "class 'b' has 10 times the training examples of class 'a'",
  ),
  "no_public_sample": (
    ("public", "examples_by_class"), [0, 2],
    "class 'a' has no public sample on the server",
  ),
  "not_finite": (
    ("splits", TRAIN, "features", "examples_not_finite"),
    1,
    "1 training example has NaN or an infinite value",
  ),
  "beyond": (
    ("splits", TEST, "features", "examples_beyond_expected"),
    3,
    "3 test examples have a value beyond 8: check the units",
  ),
  "constant": (
    ("splits", TRAIN, "features", "constant_examples"),
    1200,
    "1,200 training examples have the same value throughout",
  ),
  "constant_channels": (
    ("splits", TRAIN, "features", "constant_channels"),
    [0, 1, 2, 3, 4, 9],
    "the value of channels 0, 1, 2, 3, 4 and 1 more (from 0) is the same in all "
    "training examples",
  ),
  "in_test": (
    ("splits", TRAIN, "duplicates", "in_other_split"),
    1,
    "1 training example (0.00 %) is in the test split too: runs leave it out",
  ),
  "within": (
    ("splits", TRAIN, "duplicates", "within"),
    2,
    "2 training examples (0.00 %) repeat others",
  ),
  "contradictions": (
    ("splits", TRAIN, "duplicates", "with_another_label"),
    2,
    "2 training examples have the features of an earlier one, but another label",
  ),
  "within_test": (
    ("splits", TEST, "duplicates", "within"), 1, "1 test example repeats another"
  ),
  "one_class": (("clients", "of_one_class"), 3, "3 clients hold a single class"),
  "one_example": (
    ("clients", "of_one_example"), 1, "1 client holds a single example"
  ),
  "no_held_out": (
    ("clients", "without_held_out_examples"), 2, "2 clients hold nothing out"
  ),
  "no_own_test": (
    ("clients", "without_test_examples"), 2, "2 clients have no test example"
  ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_said(quiet, case):
  path, value, said = CASES[case]
  document = copy.deepcopy(quiet)
  place = document
  for key in path[:-1]:
    place = place[key]
  place[path[-1]] = value
  assert data_warnings.of(document) == [said]


def test_what_was_left_out_of_prepared_data(quiet):
  rejected: dict[str, Any] = {"count": 1, "by_split": None, "first": []}
  assert data_warnings.of({**quiet, "rejected": rejected}) == [
    "1 record could not be used when the folder was written"
  ]


def test_a_single_class_is_no_lack_where_there_is_one(quiet):
  document = copy.deepcopy(quiet)
  document["clients"]["of_one_class"] = 3
  document["dataset"]["anomaly_classes"] = ["b"]
  assert data_warnings.of(document) == []


def test_servers_without_samples_are_meant(quiet):
  document = copy.deepcopy(quiet)
  document["public"]["examples_by_class"] = [0, 0]
  assert data_warnings.of(document) == []


@pytest.mark.parametrize(
  ("value", "said"), [(0.0, "0.00 %"), (1e-5, "under 0.01 %"), (0.25, "25.00 %")]
)
def test_shares(value, said):
  assert data_warnings.share(value) == said
