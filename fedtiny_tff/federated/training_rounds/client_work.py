"""What a client computes in a round: read, train, pack; and what the server makes of it.

The server's look at the report (`fedtiny_tff.protection.guards`) runs in the same computation,
because the server of a TFF round only ever sees aggregates. It is no part of a client:
where reports arrive by other ways, the server runs it.
"""

import dataclasses
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import seeds
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import messages
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition
from fedtiny_tff.protection import guards, poisoning
from fedtiny_tff.sparsity import positions
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.adjustment import Adjustment, ClientStart


@dataclasses.dataclass(frozen=True)
class ClientWork:
  """What clients compute in a round.

  Attributes:
    computation: (ClientReference, ModelValues, positions, RoundInstruction) to
      ClientReport; where clients computed elsewhere, their `Received` comes first.
    adjustment: How the server moves the mask afterwards, if it does.
  """

  computation: tff.Computation
  adjustment: Optional[Adjustment]


@dataclasses.dataclass(frozen=True)
class ClientOptions:
  """What clients do besides what their configuration says.

  Attributes:
    penalty: What they add to their loss.
    layer_transform: What stands for prunable layers.
    poisoned: Which of them misbehave, and how.
  """

  penalty: Optional[base.PenaltyRule] = None
  layer_transform: Optional[tfmot_masking.LayerTransform] = None
  poisoned: poisoning.Poisoning = poisoning.NOBODY


_PLAIN = ClientOptions()


def build_client_work(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  config: training.TrainingConfig,
  adjustment: Optional[Adjustment],
  seed: int,
  types: tuple[tff.Type, tff.Type, tff.Type],
  options: ClientOptions = _PLAIN,
) -> tff.Computation:
  """Builds (ClientReference, ModelValues, positions, RoundInstruction) to ClientReport.

  Positions are an argument of their own: they arrive with the values, or the client
  holds them. The computation is the same, so that the worker prepares its graph once.

  Args:
    model_definition: The model.
    store: Where clients read their records.
    config: Local training.
    adjustment: What is sent for a mask adjustment, or None in an ordinary round.
    seed: Seed of the run.
    types: Of the ModelValues, the positions and the RoundInstruction.
    options: What clients do besides.
  """
  client = _Client(model_definition, store, config, adjustment, seed, options)

  @tff.tensorflow.computation(messages.reference_type(), *types)
  def client_work(
    reference: client_store.ClientReference,
    values: messages.ModelValues,
    positions: tf.Tensor,
    instruction: messages.RoundInstruction,
  ) -> messages.ClientReport:
    model = messages.with_positions(values, positions)
    update = client.work(reference, model, instruction)
    verdict = inspect(reference, values, update, config.local_epochs, adjustment)
    return messages.ClientReport(guards.blank_unless(verdict.accepted, update), verdict)

  return client_work


class _Client:
  """What a client does with what it receives."""

  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    store: client_store.ClientStore,
    config: training.TrainingConfig,
    adjustment: Optional[Adjustment],
    seed: int,
    options: ClientOptions,
  ):
    self._definition = model_definition
    self._store = store
    self._config = config
    self._adjustment = adjustment
    self._seed = seed
    self._options = options

  def work(
    self,
    reference: client_store.ClientReference,
    model: messages.SparseModel,
    instruction: messages.RoundInstruction,
  ) -> messages.ClientUpdate:
    """Reads, trains and packs, in the current graph."""
    spec, adjustment = self._definition.spec, self._adjustment
    weights, mask, places = messages.unpack_model(model, spec.size)
    poisoned = self._options.poisoned
    is_bad = poisoned.is_bad(reference.client)
    trainer = self._trainer(weights, mask, instruction, is_bad)
    own_seed = client_seed(self._seed, instruction.round_index, reference.client)
    examples = batches.shuffled(
      self._store.read(reference.first_record, reference.training_examples),
      self._config.local_epochs,
      own_seed,
    )
    rate = instruction.learning_rate
    if adjustment is None:
      trained, metrics = trainer.train(weights, mask, examples, rate)
      sent: Any = ()
    else:
      start = ClientStart(weights, mask, examples, rate, instruction.counts)
      trained, metrics, sent = adjustment.train(trainer, start)
      if poisoned.clients:
        votable = _votable_positions(adjustment, spec)
        sent = poisoned.votes(sent, own_seed, is_bad, votable)
        if adjustment.replaces_weights:
          code = positions.smallest_code(spec.size, sent.values.shape[0])
          before = tf.gather(weights.prunable, code.decode(sent.positions))
          sent = sent._replace(values=poisoned.sent(sent.values, before, is_bad))
      _check_statistics(adjustment, sent)
    trained = type(trained)(
      *(
        poisoned.sent(after, before, is_bad)
        for after, before in zip(trained, weights, strict=True)
      )
    )
    values = tf.gather(trained.prunable, places)
    if adjustment is not None and adjustment.replaces_weights:
      values = tf.zeros([0], tf.float32)
    offset = trained.batch_norm_mean - weights.batch_norm_mean
    return messages.ClientUpdate(
      messages.TrainedModel(
        values, trained.dense, offset, trained.batch_norm_variance + tf.square(offset)
      ),
      tf.cast(reference.training_examples, tf.float32),
      metrics,
      sent,
    )

  def _trainer(
    self,
    weights: tfmot_masking.ModelWeights,
    mask: tf.Tensor,
    instruction: messages.RoundInstruction,
    is_bad: tf.Tensor,
  ) -> training.LocalTrainer:
    options = self._options
    penalty = options.penalty
    return training.LocalTrainer(
      self._definition,
      self._config,
      options.poisoned.decoded(self._store.decode, is_bad),
      tfmot_masking.MaskedModel(
        self._definition, self._config.compute_dtype, options.layer_transform
      ),
      penalty and penalty(weights.prunable, mask, instruction.round_index),
    )


def inspect(
  reference: client_store.ClientReference,
  received: messages.ModelValues,
  update: messages.ClientUpdate,
  epochs: int,
  adjustment: Optional[Adjustment],
) -> guards.Verdict:
  """Judges a client's report, as the server does before it adds it to others.

  Args:
    reference: What the server knows of the client.
    received: What it was sent.
    update: What it reports.
    epochs: Most passes over its examples in a round.
    adjustment: What its statistics are for, if there are any.
  """
  # The variance of the clients' means is made of squares.
  finite = guards.is_finite((update, tf.square(update.model.mean_offset)))
  fits = guards.counts_fit(
    update.weight, update.metrics, reference.training_examples, epochs
  )
  if adjustment is not None:
    fits = tf.logical_and(fits, adjustment.positions_fit(update.statistics))
  moved = messages.offsets(update.model, received)
  values = moved.active_values
  if adjustment is not None and adjustment.replaces_weights:
    # Under another mask there is nothing to subtract: as long as that, it moved too far.
    own: Any = update.statistics
    values = own.values
  # Batch-norm statistics follow the data, whose scale nobody knows beforehand.
  near = guards.is_near((values, moved.dense), (received.active_values, received.dense))
  return guards.judge(finite, fits, near)


def _votable_positions(adjustment: Adjustment, spec: spec_lib.PrunableSpec) -> int:
  """Counts the positions at which a whole group of weights begins, in any layer."""
  if not adjustment.statistics_specs():
    return 0
  weights = tf.nest.flatten(adjustment.zero())[0].shape[0]
  return int(weights) - max(spec.channel_blocks) + 1


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
