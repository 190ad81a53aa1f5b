"""Who has what, counted by hand and against a plain loop."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedtiny_tff.data import federation, scan
from pipelines.datasets import data_clients
from tests.fedtiny_tff.support import quick
from tests.pipelines.datasets import inspected_data


@pytest.fixture(name="clients", scope="module")
def fixture_clients():
  return inspected_data.inspect(owners=[1, 2])["clients"]


def test_sizes(clients):
  # Client x has 0, 1 and 5, client y 2 and 6.
  assert clients["count"] == clients["shown"] == 2
  assert clients["training_examples"] == 4
  assert clients["held_out_examples"] == 1
  assert clients["sizes"] == {
    "minimum": 2, "percentile_10": pytest.approx(2.1), "median": 2.5, "maximum": 3,
  }  # fmt: skip


def test_labels(clients):
  assert clients["label_by_client"] == [
    {
      "client": "x", "training_examples": 2, "held_out_examples": 1,
      "test_examples": 0, "examples_by_class": [3, 0, 0],
    },
    {
      "client": "y", "training_examples": 2, "held_out_examples": 0,
      "test_examples": 1, "examples_by_class": [0, 2, 0],
    },
  ]  # fmt: skip


def test_what_is_missing(clients):
  assert clients["by_missing_classes"] == {"2": 2}
  assert clients["clients_missing_class"] == [1, 1, 2]
  assert clients["of_one_class"] == 2
  assert clients["of_one_example"] == 0
  assert clients["without_held_out_examples"] == 1
  assert clients["without_test_examples"] == 1


def test_a_class_that_nobody_may_train_on_is_not_missed():
  clients = inspected_data.inspect(anomalies=(2,))["clients"]
  assert clients["by_missing_classes"] == {"1": 2}
  assert clients["of_one_class"] == 2
  assert clients["clients_missing_class"] == [1, 1, 2]


def test_without_owners_nobody_has_test_examples():
  clients = inspected_data.inspect()["clients"]
  assert clients["without_test_examples"] is None
  assert clients["label_by_client"][0]["test_examples"] is None


def _population(labels, owners, clients):
  """Returns data of which everybody trains on all of theirs."""
  parts = tuple(np.flatnonzero(owners == client) for client in range(clients))
  nothing = np.zeros(0, np.int64)
  contents = np.arange(len(labels), dtype=np.uint64)
  facts = scan.SplitFacts(labels, contents, None)
  test = scan.SplitFacts(nothing, np.zeros(0, np.uint64), None)
  found = scan.Scan(facts, test, (), np.zeros(1), np.ones(1))
  assigned = federation.Federation(
    nothing, parts, (nothing,) * clients, np.arange(clients)
  )
  names = tuple(map(str, range(clients)))
  return data_clients.Assigned(inspected_data.INFO, found, assigned, "iid", names)


@quick
@hypothesis.given(
  st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=30)
)
def test_counts_are_those_of_a_plain_loop(pairs):
  labels, owners = np.array(pairs, np.int64).T
  what = _population(labels, owners, 5)
  found = data_clients.figures(what)
  expected = np.zeros((5, 3), int)
  for label, owner in pairs:
    expected[owner, label] += 1
  counts = [each["examples_by_class"] for each in found["label_by_client"]]
  assert counts == expected.tolist()
  assert found["clients_missing_class"] == (expected == 0).sum(axis=0).tolist()
  assert sum(found["by_missing_classes"].values()) == 5


def test_of_large_populations_the_first_are_shown(monkeypatch):
  monkeypatch.setattr(data_clients, "_COUNTS_AT_A_TIME", 30)
  labels = np.arange(130) % 3
  what = _population(labels, np.arange(130), 130)
  found = data_clients.figures(what)
  assert (found["count"], found["shown"]) == (130, 100)
  assert [each["client"] for each in found["label_by_client"]][-1] == "99"
  assert found["by_missing_classes"] == {"2": 130}
  # 130 = 44 + 43 + 43.
  assert found["clients_missing_class"] == [86, 87, 87]
  assert found["of_one_class"] == found["of_one_example"] == 130
