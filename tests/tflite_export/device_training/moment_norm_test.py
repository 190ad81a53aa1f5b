"""Sums of batch norm's inputs, in LiteRT, are near enough to be taken for what they are."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from fedtiny_tff.federated.adaptive_selection import selection_votes
from fedtiny_tff.masked_models import batch_statistics
from tflite_export.device_training import device_file, moment_norm


@pytest.mark.parametrize("shape", [(65, 48, 48, 2), (33, 112, 112, 2)])
@pytest.mark.parametrize("value", [0.11, -1.7])
def test_a_constant_channel_of_large_images_counts(shape, value):
  """A dead channel has one value everywhere, and its sums leave no room for rounding."""

  @tf.function(
    input_signature=[tf.TensorSpec(shape, name="x"), tf.TensorSpec(shape[:1], name="r")]
  )
  def sums(x, r):
    count, first = moment_norm.sums(x, r)
    _, second = moment_norm.sums(tf.square(x), r)
    return {"count": tf.reshape(count, [1]), "first": first, "second": second}

  content = device_file.device_file([], {"sums": sums.get_concrete_function()})
  interpreter = Interpreter(model_content=content)
  interpreter.allocate_tensors()
  rows = np.ones(shape[0], np.float32)
  rows[-1] = 0.0
  found = interpreter.get_signature_runner("sums")(
    x=np.full(shape, value, np.float32), r=rows
  )
  count = (shape[0] - 1) * shape[1] * shape[2]
  assert found["count"] == count
  np.testing.assert_allclose(found["first"], count * value, rtol=1e-5)
  np.testing.assert_allclose(found["second"], count * value**2, rtol=1e-5)
  moments = batch_statistics.BatchMoments(
    *(
      tf.constant(np.broadcast_to(each, [2])[np.newaxis], tf.float64)
      for each in (found["count"], found["first"], found["second"])
    )
  )
  assert selection_votes.moments_count(moments, tf.constant(shape[0] - 1, tf.int64))
