"""Rounds whose clients computed elsewhere: their updates arrive, and are judged.

What the server does with them is the simulation's own: the same look at each report,
the same means, the same adjustment of masks.
"""

from typing import NamedTuple, Optional

import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.data import client_store
from fedtiny_tff.federated import messages
from fedtiny_tff.federated.training_rounds import client_work
from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition
from fedtiny_tff.protection import guards
from fedtiny_tff.strategies.adjustment import Adjustment


class Received(NamedTuple):
  """What a client sent, and what the server knows of it.

  Attributes:
    reference: Who it is, and how many examples it said to have.
    update: What it sent; nothing of it is trusted.
  """

  reference: client_store.ClientReference
  update: messages.ClientUpdate


def build_received_work(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  config: training.TrainingConfig,
  adjustment: Optional[Adjustment],
  seed: int,
  types: tuple[tff.Type, tff.Type, tff.Type],
  options: Optional[client_work.ClientOptions] = None,
) -> tff.Computation:
  """Builds (Received, ModelValues, positions, RoundInstruction) to ClientReport.

  Args are those of `client_work.build_client_work`, in whose place it stands; of the
  store, the seed and the options nothing is used, because nothing is computed here.
  """
  del store, seed, options
  values_type, positions_type, instruction_type = types
  received_type = received_update_type(model_definition, values_type, adjustment)

  @tff.tensorflow.computation(
    received_type, values_type, positions_type, instruction_type
  )
  def received_work(
    received: Received,
    values: messages.ModelValues,
    positions: tf.Tensor,
    instruction: messages.RoundInstruction,
  ) -> messages.ClientReport:
    del positions, instruction
    verdict = client_work.inspect(
      received.reference, values, received.update, config.local_epochs, adjustment
    )
    return messages.ClientReport(
      guards.blank_unless(verdict.accepted, received.update), verdict
    )

  return received_work


def received_update_type(
  model_definition: definition.ModelDefinition,
  values_type: tff.Type,
  adjustment: Optional[Adjustment],
) -> tff.Type:
  """Returns the type of what arrives from a client in a round."""
  sizes = tfmot_masking.vector_sizes(model_definition)
  active = values_type.active_values.shape[0]
  if adjustment is not None and adjustment.replaces_weights:
    active = 0
  statistics = (
    tff.types.to_type(())
    if adjustment is None
    else messages.statistics_type(adjustment)
  )
  return tff.types.to_type(
    Received(
      messages.reference_type(),
      messages.client_update_type(sizes, active, statistics),
    )
  )
