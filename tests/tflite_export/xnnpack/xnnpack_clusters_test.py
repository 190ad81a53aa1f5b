"""What belongs together, on hand-made graphs; operators count from 0."""

import pytest

from tests.tflite_export.hand_made_graphs import Network
from tflite_export.xnnpack.xnnpack_clusters import Analysis

PAD, STEM, FIRST, SECOND, MEAN = range(5)


def plain(zeros=(64, 64), stored_sparse=True):
  """PAD, stem, two 1×1 convolutions of 64 weights, mean."""
  network = Network()
  image = network.stem()
  for count in zeros:
    image = network.pointwise(image, count, stored_sparse)
  network.mean(image)
  return network


def reasons(network):
  (cluster,) = [each for each in Analysis(network.graph()).clusters if each.weights]
  return [rejection.reason for rejection in cluster.rejections]


def test_one_cluster_from_stem_to_mean():
  analysis = Analysis(plain().graph())
  (cluster,) = analysis.clusters
  assert cluster.operators == (STEM, FIRST, SECOND, MEAN)
  assert (cluster.zeros, cluster.weights, cluster.taken) == (128, 128, True)
  assert analysis.fused_into(PAD) == STEM
  assert analysis.fused_into(STEM) is None
  assert analysis.open_ends(cluster) == analysis.inner_pools(cluster) == []


@pytest.mark.parametrize(("zeros", "taken"), [((43, 43), True), ((64, 21), False)])
def test_zeros_count_over_the_cluster(zeros, taken):
  # 86 of 128 is more than two thirds, 85 is not.
  (cluster,) = Analysis(plain(zeros).graph()).clusters
  assert (cluster.zeros, cluster.taken) == (sum(zeros), taken)


def test_a_weight_that_two_convolutions_share_counts_twice():
  network = Network()
  image = network.pointwise(network.stem())
  weight = network.graph().operators[-1].inputs[1]
  network.mean(network.add("CONV_2D", image, weight))
  (cluster,) = Analysis(network.graph()).clusters
  assert (cluster.zeros, cluster.weights) == (128, 128)


def test_nothing_is_stored_sparse():
  (reason,) = reasons(plain(stored_sparse=False))
  assert reason == "no weight near it is stored sparse"


def test_mends_of_dense_storage_name_both_ways():
  (cluster,) = Analysis(plain(stored_sparse=False).graph()).clusters
  (rejection,) = cluster.rejections
  assert "fp32_sparse" in rejection.mend
  assert "Optimize.EXPERIMENTAL_SPARSITY" in rejection.mend


def test_no_exit():
  network = Network()
  network.add("RELU", network.pointwise(network.stem()))
  assert reasons(network) == ["nothing near it is a spatial mean at the end"]


def test_no_stem():
  network = Network()
  network.mean(network.pointwise(network.add("RELU", 0)))
  assert "without a stem" in reasons(network)[0]


def test_inner_tensor_that_the_graph_gives_out():
  network = Network()
  image = network.pointwise(network.stem())
  pooled = network.mean(network.pointwise(image))
  assert reasons(network) == []
  analysis = Analysis(network.graph(pooled, image))
  before, after = analysis.clusters
  assert after.rejections[0].reason == "a tensor inside is an output of the graph"
  # What is in front of it is run sparse all the same, wrongly.
  assert before.taken
  assert analysis.open_ends(before) == [2]


def test_reader_outside():
  network = Network()
  image = network.pointwise(network.stem())
  network.mean(network.pointwise(image))
  network.add("MAX_POOL_2D", image)
  (reason,) = reasons(network)
  assert reason.startswith(
    "operator 5 (MAX_POOL_2D) also reads a tensor of the cluster"
  )


def test_unfit_operator_in_between_leaves_two_clusters():
  network = Network()
  image = network.pointwise(network.stem())
  pooled = network.add("MAX_POOL_2D", image)
  network.mean(network.pointwise(pooled))
  before, after = Analysis(network.graph()).clusters
  assert before.operators == (1, 2)
  assert before.taken
  assert after.operators == (4, 5)
  (rejection,) = after.rejections
  assert rejection.operator == 3
  assert "MAX_POOL_2D) feeds the cluster" in rejection.reason


def test_residual_joins_both_ways():
  network = Network()
  image = network.stem()
  network.mean(network.add("ADD", network.pointwise(image), image))
  (cluster,) = Analysis(network.graph()).clusters
  assert cluster.operators == (1, 2, 3, 4)
  assert cluster.taken


def test_parts_of_other_runtimes_have_ends_of_their_own():
  network = Network()
  custom = network.add("CUSTOM", network.pointwise(network.stem()))
  network.mean(network.pointwise(custom))
  before, after = Analysis(network.graph()).clusters
  # The mean stands in another part.
  assert "nothing near it" in before.rejections[0].reason
  assert "does not take CUSTOM" in after.rejections[0].reason


class TestEnds:
  def test_open_end(self):
    network = Network()
    image = network.pointwise(network.stem())
    network.mean(network.pointwise(image))
    image = network.add("RELU", image)
    network.add("MAX_POOL_2D", image)
    analysis = Analysis(network.graph())
    (cluster,) = analysis.clusters
    assert analysis.open_ends(cluster) == [5]

  def test_fused_padding_is_no_end(self):
    network = Network()
    image = network.stem()
    network.mean(network.pointwise(image))
    analysis = Analysis(network.graph())
    assert analysis.open_ends(analysis.clusters[0]) == []

  def test_pool_that_feeds_the_cluster(self):
    network = Network()
    image = network.stem()
    pooled = network.mean(image, keep=True)
    network.mean(network.add("MUL", image, network.pointwise(pooled)))
    analysis = Analysis(network.graph())
    (cluster,) = analysis.clusters
    assert analysis.inner_pools(cluster) == [2]
    assert cluster.taken


def test_many_operators_on_one_tensor_take_no_more_time_each():
  """A quadratic rule would look at 100 million pairs."""
  network = Network()
  image = network.stem()
  network.pointwise(image)
  weight = network.graph().operators[-1].inputs[1]
  for _ in range(10_000):
    network.add("CONV_2D", image, weight)
  analysis = Analysis(network.graph())
  (cluster,) = analysis.clusters
  assert cluster.weights == 64 * 10_001
  assert len(analysis.open_ends(cluster)) == 10_001
  assert analysis.inner_pools(cluster) == []
