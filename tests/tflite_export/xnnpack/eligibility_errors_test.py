"""Each error on a hand-made graph, and a graph next to it without."""

import dataclasses

import pytest

from tests.tflite_export.hand_made_graphs import Network, graph_of, options, tensor
from tflite_export.xnnpack.eligibility_errors import find
from tflite_export.xnnpack.graph import Tensor
from tflite_export.xnnpack.xnnpack_clusters import Analysis


def errors(network):
  return find(Analysis(network.graph()))


def ending_in(make, **stored):
  """A stem, a 1×1 convolution, what `make` adds, and a mean beside it."""
  network = Network()
  image = network.pointwise(network.stem(), **stored)
  network.mean(image)
  make(network, image)
  return network


def test_an_ordinary_network_has_none():
  assert errors(ending_in(lambda network, image: network.mean(image))) == []


class TestOpenEnds:
  def test_outputs_are_wrong(self):
    network = ending_in(
      lambda network, image: network.add("MAX_POOL_2D", network.add("RELU", image))
    )
    (error,) = errors(network)
    assert error.message.startswith("operator 4 (RELU) leaves the sparse part")
    assert "outputs are wrong" in error.message
    assert not error.prevents_loading

  def test_nothing_leaves_what_is_not_sparse(self):
    network = ending_in(
      lambda network, image: network.add("MAX_POOL_2D", network.add("RELU", image)),
      zeros=42,
    )
    assert errors(network) == []

  def test_behind_a_pool_it_does_not_load(self):
    def head(network, image):
      pooled = network.mean(image, keep=True)
      network.pointwise(network.add("RELU", pooled, shape=(1, 1, 1, 8)))

    (error,) = errors(ending_in(head))
    assert "failed to reshape runtime" in error.message
    assert error.message.startswith("operator 6 (CONV_2D) follows a pooling")
    assert error.prevents_loading

  def test_an_image_of_another_size_is_not_behind_a_pool(self):
    def excite(network, image):
      scale = network.pointwise(network.mean(image, keep=True))
      network.add("MAX_POOL_2D", network.add("MUL", image, scale))

    (error,) = errors(ending_in(excite))
    assert "operator 6 (MUL) leaves the sparse part without" in error.message
    assert not error.prevents_loading


class TestSwappedOutputs:
  @pytest.mark.parametrize(
    ("keep", "reader", "count"),
    [
      (True, None, 1),
      (True, "SOFTMAX", 1),
      (True, "RESHAPE", 0),
      (False, None, 0),
      (False, "SOFTMAX", 0),
    ],
  )
  def test_pool_with_keepdims(self, keep, reader, count):
    def head(network, image):
      pooled = network.mean(image, keep=keep)
      if reader:
        network.add(reader, pooled, shape=(1, 8))

    found = errors(ending_in(head))
    assert len(found) == count
    assert all("[1, c, 1, 1]" in error.message for error in found)
    assert not any(error.prevents_loading for error in found)


class TestPartialMeans:
  @pytest.mark.parametrize("axes", [(1,), (2,), (0,), ()])
  def test_channels_beside_height_or_width(self, axes):
    (error,) = errors(ending_in(lambda net, image: net.mean(image, axes=axes)))
    assert error.message.startswith("operator 4 (MEAN) is over part of the image only")
    assert not error.prevents_loading

  @pytest.mark.parametrize("axes", [(1, 2), (3,), (1, 3), (2, 3), (1, 2, 3), (0, 1, 2)])
  def test_what_is_left_has_one_order(self, axes):
    assert errors(ending_in(lambda net, image: net.mean(image, axes=axes))) == []

  def test_a_dimension_of_one_has_no_order(self):
    def head(network, image):
      row = network.add("RESIZE_BILINEAR", image, shape=(1, 1, 4, 8))
      network.mean(row, axes=(2,))

    assert errors(ending_in(head)) == []

  def test_inside_there_is_another_error(self):
    def gate(network, image):
      row = network.mean(image, keep=True, axes=(1,))
      network.mean(network.add("MUL", image, row))

    (error,) = errors(ending_in(gate))
    assert "spreads a pooling" in error.message


class TestBroadcastPools:
  def found(self, *between, kind="MUL", shape=(1, 1, 1, 8)):
    def gate(network, image):
      pooled = network.mean(image, keep=True, shape=shape)
      for each in between:
        pooled = network.add(each, pooled, shape=shape)
      network.mean(network.add(kind, image, pooled))

    return errors(ending_in(gate))

  @pytest.mark.parametrize("between", [(), ("LOGISTIC",), ("RELU", "LOGISTIC")])
  @pytest.mark.parametrize("kind", ["MUL", "ADD"])
  def test_it_does_not_load(self, between, kind):
    (error,) = self.found(*between, kind=kind)
    number = 5 + len(between)
    assert error.message.startswith(f"operator {number} ({kind}) spreads a pooling")
    assert "failed to reshape runtime" in error.message
    assert error.prevents_loading

  def test_a_convolution_between_sets_it_right(self):
    def excite(network, image):
      scale = network.pointwise(network.mean(image, keep=True))
      network.mean(network.add("MUL", image, scale))

    assert errors(ending_in(excite)) == []

  def test_a_single_number_has_no_order(self):
    assert self.found(shape=(1, 1, 1, 1)) == []

  def test_two_of_one_shape_are_not_spread(self):
    assert self.found(shape=(1, 4, 4, 8)) == []


class TestPackedIntegers:
  def found(self, kind="FULLY_CONNECTED", image="float32", dtype="int8", sparse=True):
    tensors = [
      tensor((1, 8), image),
      Tensor("", (4, 8), dtype, True, sparse, 8),
      tensor((1, 4), image),
    ]
    graph = graph_of([(kind, (0, 1), (2,), options())], tensors)
    return find(Analysis(graph))

  def test_float_layer_with_sparse_integers(self):
    (error,) = self.found()
    assert "failed to delegate" in error.message
    assert error.prevents_loading

  @pytest.mark.parametrize(
    "changes",
    [
      {"kind": "DEPTHWISE_CONV_2D"},
      {"image": "int8"},
      {"dtype": "float32"},
      {"sparse": False},
    ],
  )
  def test_others_load(self, changes):
    assert self.found(**changes) == []


def test_other_subgraphs_are_named():
  network = ending_in(lambda network, image: network.mean(image, keep=True))
  graph = dataclasses.replace(network.graph(), number=3)
  (error,) = find(Analysis(graph))
  assert "operator 4 (MEAN) of subgraph 3 keeps" in error.message


def test_many_operators_on_one_tensor_take_no_more_time_each():
  """A quadratic rule would look at 100 million pairs."""

  def head(network, image):
    for _ in range(10_000):
      network.mean(image, keep=True)

  found = errors(ending_in(head))
  # The last one's result is the graph's output; nobody reads the others'.
  assert len(found) == 1
