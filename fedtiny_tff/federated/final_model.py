"""A server state as a plain Keras model."""

import numpy as np
import tensorflow as tf

from fedtiny_tff.federated import states
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.model_structure import definition


def finalize(
  model_definition: definition.ModelDefinition, state: states.ServerState
) -> tf.keras.Model:
  """Turns a server state into a plain Keras model, through tfmot's wrappers.

  Raises:
    RuntimeError: When a pruned weight is not zero afterwards.
  """
  masked = tfmot_masking.MaskedModel(model_definition)
  weights = ModelWeights(*(tf.constant(v) for v in state.weights))
  masked.assign(weights, tf.constant(state.mask))
  model = tfmot_masking.strip(masked)
  for name, mask in model_definition.spec.masks_by_layer(
    np.asarray(state.mask)
  ).items():
    leaked = np.count_nonzero(model.get_layer(name).kernel.numpy()[~mask])
    if leaked:
      raise RuntimeError(f"layer {name}: {leaked} pruned weights are not zero")
  return model
