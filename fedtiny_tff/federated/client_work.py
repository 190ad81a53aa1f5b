"""What a client computes in a round: read, train, pack."""

import dataclasses
import functools
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import batches, training
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import messages
from fedtiny_tff.models import definition
from fedtiny_tff.strategies import base


@dataclasses.dataclass(frozen=True)
class ClientWork:
  """What clients compute in a round.

  Attributes:
    computation: (ClientReference, ModelValues, positions, RoundInstruction) to
      ClientUpdate.
    adjustment: How the server moves the mask afterwards, if it does.
  """

  computation: tff.Computation
  adjustment: Optional[base.Adjustment]


def build_client_work(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  config: training.TrainingConfig,
  adjustment: Optional[base.Adjustment],
  seed: int,
  values_type: tff.Type,
  positions_type: tff.Type,
  instruction_type: tff.Type,
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
    trainer = training.LocalTrainer(model_definition, config, store.decode)
    model = messages.with_positions(values, positions)
    weights, mask, places = messages.unpack_model(model, spec.size)
    records = store.read(client.first_record, client.training_examples)
    examples = batches.shuffled(
      records,
      config.local_epochs,
      client_seed(seed, instruction.round_index, client.client),
    )
    rate = instruction.learning_rate
    statistics: Any = ()
    if adjustment is None:
      trained, metrics = trainer.train(weights, mask, examples, rate)
    else:
      look = functools.partial(
        adjustment.client_statistics, mask=mask, counts=instruction.counts
      )
      trained, metrics, statistics = trainer.train_with_statistics(
        weights, mask, examples, rate, look
      )
    offset = trained.batch_norm_mean - weights.batch_norm_mean
    return messages.ClientUpdate(
      messages.TrainedModel(
        tf.gather(trained.prunable, places),
        trained.dense,
        offset,
        trained.batch_norm_variance + tf.square(offset),
      ),
      tf.cast(client.training_examples, tf.float32),
      metrics,
      statistics,
    )

  return client_work


def client_seed(seed: int, round_index: tf.Tensor, client: tf.Tensor) -> tf.Tensor:
  """Returns the int32 [2] seed of one client in one round."""
  fold_in = tf.random.experimental.stateless_fold_in
  run = tf.constant([seed & 0x7FFFFFFF, seed >> 31], tf.int32)
  return fold_in(fold_in(run, round_index), tf.cast(client, tf.int32))
