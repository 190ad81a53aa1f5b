import pytest

from tests.tflite_export.hand_made_graphs import Network
from tflite_export.xnnpack.xnnpack_rejections import (
  blame,
  outside_producer,
  unprofitable,
)
from tflite_export.xnnpack.xnnpack_rules import Fit, Place, fit


class TestProfit:
  @pytest.mark.parametrize(("zeros", "weights"), [(67, 100), (3, 4), (43, 64), (1, 1)])
  def test_more_than_two_thirds(self, zeros, weights):
    assert unprofitable(zeros, weights) == []

  @pytest.mark.parametrize(
    ("zeros", "weights", "share"), [(66, 100, "66.0%"), (2, 3, "66.7%"), (0, 9, "0.0%")]
  )
  def test_not_more(self, zeros, weights, share):
    (found,) = unprofitable(zeros, weights)
    assert found.reason == (
      f"{zeros} of {weights} weights of its 1×1 convolutions are zero ({share}), "
      "not more than two thirds"
    )
    assert found.mend == "prune its 1×1 convolutions further"

  def test_nothing_to_gain(self):
    assert unprofitable(0, 0)[0].reason == "it has no 1×1 convolution"


def test_blame_names_operator_rule_and_mend():
  network = Network()
  network.add("MAX_POOL_2D", 0)
  graph = network.graph()
  fits = {0: fit(graph, graph.operators[0])}
  found = blame(graph, fits, 0, "feeds")
  assert found.operator == 0
  assert found.reason.startswith("operator 0 (MAX_POOL_2D) feeds the cluster: ")
  assert found.mend == fits[0].mend != ""
  assert blame(graph, {0: Fit(Place.INSIDE)}, 0, "feeds").reason.endswith("cluster")


def test_what_is_read_from_outside():
  network = Network()
  made = network.add("RELU", 0)
  network.add("RELU", made)
  graph = network.graph()
  fits = {index: Fit(Place.NOWHERE, "a rule", "a mend") for index in (0, 1)}
  assert "without a stem" in outside_producer(graph, fits, 0).reason
  assert outside_producer(graph, fits, made) == blame(graph, fits, 0, "feeds")
  shown = network.graph(made)
  assert "output of the graph" in outside_producer(shown, fits, made).reason
