"""The report's predictions against LiteRT for ARM64 under emulation.

Sparse means at least 1.5 times less emulated time than the dense twin; at most 1.2
times less means dense.
"""

import numpy as np
import pytest

from tests.tflite_export import eligibility_graphs
from tflite_export.arm64 import arm64, arm64_setup
from tflite_export.artifacts import VerificationError
from tflite_export.runtimes import litert

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(arm64_setup.find() is None, reason=arm64_setup.problem()),
]
_TAKEN, _NOT_TAKEN = 1.5, 1.2
_TOLERANCE = 1e-4


@pytest.mark.parametrize("name", eligibility_graphs.GRAPHS)
def test_measured_behaviour(name):
  graph = eligibility_graphs.GRAPHS[name]
  sparse = eligibility_graphs.converted(graph)
  if not graph.loads:
    with pytest.raises(VerificationError, match=graph.error):
      arm64.invoke_seconds([sparse], 1)
    return
  dense = eligibility_graphs.converted_dense(graph)
  seconds = arm64.invoke_seconds([sparse, dense], 5).min(axis=1)
  ratio = seconds[1] / seconds[0]
  print(f"{name}: dense/sparse {ratio:.2f}")
  assert ratio >= _TAKEN if graph.sparse else ratio <= _NOT_TAKEN


@pytest.mark.parametrize(
  "name", [name for name, graph in eligibility_graphs.GRAPHS.items() if graph.loads]
)
def test_outputs_are_those_of_x86_unless_an_error_says_otherwise(name):
  graph = eligibility_graphs.GRAPHS[name]
  content = eligibility_graphs.converted(graph)
  shape = graph.build().input_shape[1:]
  inputs = np.random.default_rng(5).normal(size=(1, *shape)).astype(np.float32)
  here, there = litert.run(content, inputs), arm64.run(content, inputs)
  same = here.shape == there.shape and np.allclose(
    here, there, rtol=0, atol=_TOLERANCE * np.abs(here).max()
  )
  # int8 kernels round differently here and there: by one step.
  if graph.format.startswith("int8"):
    return
  assert same == (graph.error is None)
