"""What a client computes in a round: read, train, pack."""

import dataclasses
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import batches, seeds, tfmot_masking, training
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import messages
from fedtiny_tff.models import definition
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.adjustment import Adjustment, ClientStart


@dataclasses.dataclass(frozen=True)
class ClientWork:
  """What clients compute in a round.

  Attributes:
    computation: (ClientReference, ModelValues, positions, RoundInstruction) to
      ClientUpdate.
    adjustment: How the server moves the mask afterwards, if it does.
  """

  computation: tff.Computation
  adjustment: Optional[Adjustment]


def build_client_work(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  config: training.TrainingConfig,
  adjustment: Optional[Adjustment],
  seed: int,
  values_type: tff.Type,
  positions_type: tff.Type,
  instruction_type: tff.Type,
  *,
  penalty: Optional[base.PenaltyRule] = None,
  layer_transform: Optional[tfmot_masking.LayerTransform] = None,
) -> tff.Computation:
  """Builds (ClientReference, ModelValues, positions, RoundInstruction) to ClientUpdate.

  Positions are an argument of their own: they arrive with the values, or the client
  holds them. The computation is the same, so that the worker prepares its graph once.

  Args:
    model_definition: The model.
    store: Where clients read their records.
    config: Local training.
    adjustment: What is sent for a mask adjustment, or None in an ordinary round.
    seed: Seed of the run.
    values_type: Type of the ModelValues.
    positions_type: Type of the positions.
    instruction_type: Type of the RoundInstruction.
    penalty: What clients add to their loss.
    layer_transform: What stands for prunable layers.
  """
  spec = model_definition.spec

  @tff.tensorflow.computation(
    messages.reference_type(), values_type, positions_type, instruction_type
  )
  def client_work(
    client: client_store.ClientReference,
    values: messages.ModelValues,
    positions: tf.Tensor,
    instruction: messages.RoundInstruction,
  ) -> messages.ClientUpdate:
    model = messages.with_positions(values, positions)
    weights, mask, places = messages.unpack_model(model, spec.size)
    trainer = training.LocalTrainer(
      model_definition,
      config,
      store.decode,
      tfmot_masking.MaskedModel(model_definition, config.compute_dtype, layer_transform),
      penalty and penalty(weights.prunable, mask, instruction.round_index),
    )
    records = store.read(client.first_record, client.training_examples)
    examples = batches.shuffled(
      records,
      config.local_epochs,
      client_seed(seed, instruction.round_index, client.client),
    )
    rate = instruction.learning_rate
    if adjustment is None:
      trained, metrics = trainer.train(weights, mask, examples, rate)
      sent: Any = ()
    else:
      start = ClientStart(weights, mask, examples, rate, instruction.counts)
      trained, metrics, sent = adjustment.train(trainer, start)
      _check_statistics(adjustment, sent)
    values = tf.gather(trained.prunable, places)
    if adjustment is not None and adjustment.replaces_weights:
      values = tf.zeros([0], tf.float32)
    offset = trained.batch_norm_mean - weights.batch_norm_mean
    return messages.ClientUpdate(
      messages.TrainedModel(
        values,
        trained.dense,
        offset,
        trained.batch_norm_variance + tf.square(offset),
      ),
      tf.cast(client.training_examples, tf.float32),
      metrics,
      sent,
    )

  return client_work


def _check_statistics(adjustment: Adjustment, sent: Any) -> None:
  """Holds what a method sends to what it says it sends: bytes are counted by that.

  Raises:
    TypeError: When they differ.
  """
  wanted, found = (
    [(tuple(each.shape), each.dtype.name) for each in tf.nest.flatten(tensors)]
    for tensors in (adjustment.statistics_specs(), sent)
  )
  if found != wanted:
    raise TypeError(
      f"{type(adjustment).__name__} says that clients send {wanted}, they send {found}"
    )


def client_seed(seed: int, round_index: tf.Tensor, client: tf.Tensor) -> tf.Tensor:
  """Returns the int32 [2] seed of one client in one round."""
  fold_in = tf.random.experimental.stateless_fold_in
  of_round = fold_in(seeds.stateless(seed), round_index)
  return fold_in(of_round, tf.cast(client, tf.int32))
