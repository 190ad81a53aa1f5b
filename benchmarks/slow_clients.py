"""Clients whose work takes time, but no processor."""

import dataclasses

import tensorflow as tf

from fedtiny_tff.data.client_store import ClientStore


def slept(value: tf.Tensor, seconds: float) -> tf.Tensor:
  """Returns a tensor after a pause in TensorFlow's own sleeping dataset."""
  sleeping = tf.raw_ops.SleepDataset(
    input_dataset=tf.data.Dataset.from_tensors(value)._variant_tensor,
    sleep_microseconds=tf.constant(round(seconds * 1e6), tf.int64),
    output_types=[value.dtype],
    output_shapes=[value.shape],
  )
  spec = tf.TensorSpec(value.shape, value.dtype)
  return tf.data.experimental.from_variant(sleeping, spec).get_single_element()


@dataclasses.dataclass(frozen=True)
class SlowStore(ClientStore):
  """A store whose reading takes time, a client for a client.

  Attributes:
    seconds: How long a client waits before it reads.
  """

  seconds: float = 0.0

  def read(self, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Reads records as `ClientStore.read` does, after a pause."""
    return super().read(slept(tf.convert_to_tensor(first), self.seconds), count)


def slow_store(store: ClientStore, seconds: float) -> SlowStore:
  """Makes a store slow."""
  return SlowStore(store.path, store.info, store.num_records, seconds)
