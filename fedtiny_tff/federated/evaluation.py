"""Federated evaluation: the model on the clients' held-out parts."""

from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import tasks
from fedtiny_tff.data import client_store
from fedtiny_tff.federated import messages, states
from fedtiny_tff.federated.private_sums import secure_sums
from fedtiny_tff.local_training import training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition, keras_graphs
from fedtiny_tff.protection import secure_config


def read_development(
  store: client_store.ClientStore, client: client_store.ClientReference
) -> tf.Tensor:
  """Reads a client's held-out records, uint8 [n, record_bytes]."""
  first = client.first_record + client.training_examples
  return store.read(first, client.development_examples)


@keras_graphs.sparing_eager_models()
def build_evaluation(
  model_definition: definition.ModelDefinition,
  store: client_store.ClientStore,
  *,
  active_count: int,
  batch_size: int,
  secure: Optional[secure_config.SecureSums] = None,
) -> tff.Computation:
  """Builds the evaluation of a server state.

  Args:
    model_definition: The model.
    store: Where clients read their records.
    active_count: Unpruned weights.
    batch_size: Examples per batch.
    secure: How sums are added up unseen; None for in the open.

  Returns:
    (SparseState@SERVER, {ClientReference}@CLIENTS) to Metrics@SERVER.
  """
  sizes = tfmot_masking.vector_sizes(model_definition)
  model_type = messages.sparse_model_type(sizes, active_count)
  state_type = states.sparse_state_type(sizes, active_count)

  @tff.tensorflow.computation(state_type)
  def pack(state: states.SparseState) -> messages.SparseModel:
    return state.model

  @tff.tensorflow.computation(messages.reference_type(), model_type)
  def evaluate(
    client: client_store.ClientReference, model: messages.SparseModel
  ) -> tasks.Metrics:
    evaluator = training.Evaluator(model_definition, store.decode, batch_size)
    weights, mask, _ = messages.unpack_model(model, sizes.prunable)
    records = read_development(store, client)
    metrics: tasks.Metrics = evaluator.evaluate(weights, mask, records)
    return metrics

  add_up = secure_sums.sum_of(secure, evaluate.type_signature.result)

  @tff.federated_computation(
    tff.FederatedType(state_type, tff.SERVER),
    tff.FederatedType(messages.reference_type(), tff.CLIENTS),
  )
  def evaluation(state: Any, clients: Any) -> Any:
    model = tff.federated_broadcast(tff.federated_map(pack, state))
    return add_up(tff.federated_map(evaluate, (clients, model)))

  return evaluation
