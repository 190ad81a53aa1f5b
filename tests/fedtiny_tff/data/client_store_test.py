"""Records on disk come back as they went in, wherever they lie."""

import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data import client_store
from fedtiny_tff.data.examples import Batch
from fedtiny_tff.data.federation import Federation
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_TYPES = ["uint8", "float32"]


def _examples(count, shape, feature_type, seed=0):
  generator = np.random.default_rng(seed)
  features = generator.integers(0, 256, (count, *shape)).astype(feature_type)
  if feature_type == "float32":
    features = (features / 7.0 - 11.0).astype(np.float32)
  labels = generator.integers(0, 3, count)
  return [(features[i], int(labels[i])) for i in range(count)]


def _batch(examples):
  features, labels = zip(*examples, strict=True)
  return Batch(np.stack(features), np.array(labels, np.int64))


def _encoded(examples, info):
  return [bytes(record) for record in client_store.encode(_batch(examples), info)]


def _read(store, first, count):
  records = store.read(tf.constant(first, tf.int64), tf.constant(count, tf.int64))
  features, labels = store.decode(records)
  return features.numpy(), labels.numpy().tolist()


def test_a_record_by_hand():
  info = support.dataset_info((2, 1))
  (encoded,) = _encoded([(np.array([[7], [255]], np.uint8), 2)], info)
  # Label 2 as little-endian int64, then the features.
  assert encoded == bytes([2, 0, 0, 0, 0, 0, 0, 0, 7, 255])


@pytest.mark.parametrize(
  ("shape", "feature_type", "expected"),
  [((2, 1), "uint8", 10), ((2, 3), "float32", 32), ((32, 32, 3), "uint8", 3080)],
)
def test_record_length(shape, feature_type, expected):
  info = support.dataset_info(shape, feature_type)
  assert client_store.ClientStore("", info, 0).record_bytes == expected


@support.quick
@given(
  shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
  feature_type=st.sampled_from(_TYPES),
  count=st.integers(1, 5),
  seed=st.integers(0, 99),
)
def test_encoding_and_decoding_are_inverse(shape, feature_type, count, seed):
  info = support.dataset_info(tuple(shape), feature_type)
  examples = _examples(count, shape, feature_type, seed)
  store = client_store.ClientStore("", info, count)
  raw = b"".join(_encoded(examples, info))
  records = tf.reshape(tf.io.decode_raw(raw, tf.uint8), [-1, store.record_bytes])
  features, labels = store.decode(records)
  assert features.dtype == tf.float32
  np.testing.assert_array_equal(features, np.stack([f for f, _ in examples]))
  assert labels.numpy().tolist() == [label for _, label in examples]


@pytest.mark.parametrize("feature_type", _TYPES)
def test_records_are_read_by_place(tmp_path, feature_type):
  info = support.dataset_info((2, 3), feature_type)
  examples = _examples(6, (2, 3), feature_type)
  order = [4, 0, 5, 2]
  store = support.write_store(tmp_path / "s", info, examples, order)
  assert (tmp_path / "s").stat().st_size == 4 * store.stored_record_bytes
  for first, count in [(0, 4), (1, 2), (3, 1), (0, 1)]:
    features, labels = _read(store, first, count)
    wanted = [examples[i] for i in order[first : first + count]]
    np.testing.assert_array_equal(features, np.stack([f for f, _ in wanted]))
    assert labels == [label for _, label in wanted]


def test_any_tfrecord_reader_reads_a_store(tmp_path):
  info = support.dataset_info((2, 3))
  examples = _examples(5, (2, 3), "uint8")
  support.write_store(tmp_path / "s", info, examples, [3, 1, 4])
  found = list(tf.data.TFRecordDataset(str(tmp_path / "s")).as_numpy_iterator())
  assert found == _encoded([examples[i] for i in (3, 1, 4)], info)


def test_a_split_may_come_in_batches_of_any_size(tmp_path):
  info = support.dataset_info((2, 3))
  examples = _examples(7, (2, 3), "uint8")
  order = [6, 0, 3, 2, 5]
  once = support.write_store(tmp_path / "once", info, examples, order)
  with (tmp_path / "parts").open("wb") as file:
    writer = client_store.RecordWriter(file, np.array(order), info)
    for first, last in [(0, 1), (1, 2), (2, 6), (6, 7)]:
      writer.add(_batch(examples[first:last]))
    writer.finish()
  assert (tmp_path / "parts").read_bytes() == (tmp_path / "once").read_bytes()
  assert _read(once, 0, 5)[1] == [examples[i][1] for i in order]


def test_an_altered_record_is_noticed(tmp_path):
  info = support.dataset_info((2, 3))
  store = support.write_store(
    tmp_path / "s", info, _examples(4, (2, 3), "uint8"), range(4)
  )
  content = bytearray((tmp_path / "s").read_bytes())
  content[store.stored_record_bytes + 20] ^= 1
  (tmp_path / "s").write_bytes(content)
  _read(store, 2, 2)
  with pytest.raises(tf.errors.DataLossError, match="corrupted"):
    _read(store, 0, 2)


@pytest.mark.parametrize("first", [0, 2, 4])
def test_reading_nothing_gives_an_empty_tensor(tmp_path, first):
  info = support.dataset_info((2, 3))
  store = support.write_store(
    tmp_path / "s", info, _examples(4, (2, 3), "uint8"), range(4)
  )
  features, labels = _read(store, first, 0)
  assert features.shape == (0, 2, 3)
  assert labels == []


def test_reading_works_in_a_graph(tmp_path):
  info = support.dataset_info((3,), "float32")
  examples = _examples(5, (3,), "float32")
  store = support.write_store(tmp_path / "s", info, examples, range(5))

  @tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 2)
  def read(first, count):
    records = store.read(first, count)
    assert records.shape.as_list() == [None, store.record_bytes]
    features, labels = store.decode(records)
    assert features.shape.as_list() == [None, 3]
    return features, labels

  features, labels = read(tf.constant(3, tf.int64), tf.constant(2, tf.int64))
  np.testing.assert_array_equal(features, [examples[3][0], examples[4][0]])
  assert labels.numpy().tolist() == [examples[3][1], examples[4][1]]
  assert read(tf.constant(1, tf.int64), tf.constant(0, tf.int64))[0].shape == [0, 3]


def test_reading_beyond_the_end_is_an_error(tmp_path):
  info = support.dataset_info((2, 3))
  store = support.write_store(
    tmp_path / "s", info, _examples(4, (2, 3), "uint8"), range(4)
  )
  with pytest.raises(tf.errors.InvalidArgumentError):
    _read(store, 3, 5)


def test_labels_above_one_byte_survive():
  info = dataclasses.replace(
    support.dataset_info((1,)), class_names=tuple(str(n) for n in range(70_000))
  )
  store = client_store.ClientStore("", info, 3)
  labels = [0, 256, 69_999]
  example = np.zeros(1, np.uint8)
  raw = b"".join(_encoded([(example, n) for n in labels], info))
  records = tf.reshape(tf.io.decode_raw(raw, tf.uint8), [3, 9])
  assert store.decode(records)[1].numpy().tolist() == labels


def test_a_stream_that_ends_early_is_refused(tmp_path):
  info = support.dataset_info((1,))
  with pytest.raises(
    InputError, match="1 of 3 examples are missing: its files changed"
  ):
    support.write_store(tmp_path / "s", info, _examples(2, (1,), "uint8"), range(3))


def test_decoding_preprocesses_as_numpy_does():
  how = Preprocessing(scale=1 / 255, mean=(0.5, 0.4), deviation=(0.25, 0.2))
  info = support.dataset_info((2, 2, 2), "uint8", how)
  examples = _examples(3, (2, 2, 2), "uint8")
  store = client_store.ClientStore("", info, 3)
  raw = b"".join(_encoded(examples, info))
  records = tf.reshape(tf.io.decode_raw(raw, tf.uint8), [3, store.record_bytes])
  expected = how.apply(np.stack([f for f, _ in examples]))
  np.testing.assert_allclose(store.decode(records)[0], expected, rtol=1e-6)


@support.quick
@given(st.permutations(range(7)), st.integers(0, 7))
def test_examples_may_be_written_in_any_order(permutation, kept):
  info = support.dataset_info((2,))
  examples = _examples(7, (2,), "uint8")
  file = io.BytesIO()
  order = permutation[:kept]
  writer = client_store.RecordWriter(file, np.array(order, np.int64), info)
  writer.add(_batch(examples))
  writer.finish()
  # A frame is 8 bytes of length, 4 of its checksum, the record, 4 of its checksum.
  content = file.getvalue()
  found = [content[i * 26 + 12 : i * 26 + 22] for i in range(kept)]
  assert found == [_encoded([examples[i]], info)[0] for i in order]
  assert len(content) == kept * 26


_FEDERATION = Federation(
  public=np.array([9]),
  training=(np.array([1, 4, 5]), np.array([0, 2])),
  development=(np.array([3]), np.array([6, 7, 8])),
  clients=np.arange(2),
)


def test_references_lie_end_to_end():
  placed = client_store.references(_FEDERATION)
  # Client 0 takes records 0 to 3 (three and one), client 1 records 4 to 8.
  assert placed.tolist() == [[0, 0, 3, 1], [1, 4, 2, 3]]
  assert placed.dtype == np.int64


def test_the_order_of_records_is_that_of_the_references():
  assert client_store.client_order(_FEDERATION).tolist() == [1, 4, 5, 3, 0, 2, 6, 7, 8]


def test_a_client_finds_its_own_examples(tmp_path):
  info = support.dataset_info((1,))
  examples = [(np.array([10 * i], np.uint8), 0) for i in range(10)]
  order = client_store.client_order(_FEDERATION)
  store = support.write_store(tmp_path / "s", info, examples, order)
  for row in client_store.references(_FEDERATION):
    place = client_store.ClientReference(*row)
    parts = (
      _FEDERATION.training[int(place.client)],
      _FEDERATION.development[int(place.client)],
    )
    train, _ = _read(store, place.first_record, place.training_examples)
    held_out, _ = _read(
      store, place.first_record + place.training_examples, place.development_examples
    )
    assert train[:, 0].tolist() == [10.0 * i for i in parts[0]]
    assert held_out[:, 0].tolist() == [10.0 * i for i in parts[1]]
