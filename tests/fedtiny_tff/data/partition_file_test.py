"""What is written is read again; what anybody else wrote is checked throughout."""

import copy
import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data import partition_file
from fedtiny_tff.data.partition_file import SavedPartition
from fedtiny_tff.data.sources import texts
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_DIGEST = "0123456789abcdef" * 4
_DOCUMENT: dict[str, Any] = {
  "format": "fedtiny-partition",
  "version": 1,
  "dataset": "toy",
  "train_examples": 10,
  "content_sha256": _DIGEST,
  "public": [7],
  "clients": [
    {"id": "anna", "training": [0, 2, 9], "development": [4]},
    {"id": "bob", "training": [1], "development": []},
  ],
}


def _arrays(*parts):
  return tuple(np.array(part, np.int64) for part in parts)


def _saved():
  return SavedPartition(
    "toy",
    10,
    _DIGEST,
    np.array([7]),
    ("anna", "bob"),
    _arrays([0, 2, 9], [1]),
    _arrays([4], []),
  )


def _plain(saved):
  """Returns a partition in plain values, which can be compared."""
  parts = (saved.public, *saved.training, *saved.development)
  assert {part.dtype for part in parts} == {np.dtype(np.int64)}
  return (
    saved.dataset,
    saved.train_examples,
    saved.content_sha256,
    saved.client_ids,
    [part.tolist() for part in parts],
  )


def _refusal(document):
  text = document if isinstance(document, str) else json.dumps(document)
  with pytest.raises(InputError) as caught:
    partition_file.from_text(text, "some/partition.json")
  message = str(caught.value)
  assert message.startswith("--partition_file=some/partition.json: ")
  assert message.endswith("; give a partition.json that a run wrote, as it is")
  assert message.isascii() and "\n" not in message and len(message) < 300
  return message


def _changed(*path_and_value):
  *path, last, value = path_and_value
  document = copy.deepcopy(_DOCUMENT)
  place: Any = document
  for step in path:
    place = place[step]
  place[last] = value
  return document


def test_the_text_by_hand():
  text = partition_file.to_text(_saved())
  assert text == json.dumps(_DOCUMENT, separators=(",", ":")) + "\n"


def test_what_is_written_is_read_again():
  read = partition_file.from_text(partition_file.to_text(_saved()), "f")
  assert _plain(read) == _plain(_saved())


def test_order_in_a_list_means_nothing():
  document = _changed("clients", 0, "training", [9, 0, 2])
  read = partition_file.from_text(json.dumps(document, indent=1), "f")
  assert _plain(read) == _plain(_saved())


@st.composite
def _partitions(draw):
  count = draw(st.integers(1, 60))
  order = draw(st.permutations(range(count)))
  clients = draw(st.integers(1, min(count, 6)))
  cuts = sorted(draw(st.lists(st.integers(clients, count), min_size=clients + 1,
                              max_size=clients + 1)))  # fmt: skip
  # One example for each to train on; what lies between cuts is held out or public.
  held = [sorted(order[a:b]) for a, b in itertools.pairwise(cuts)]
  names = st.text(max_size=5).filter(lambda name: not texts.problem_of_name(name))
  ids = st.lists(names, min_size=clients, max_size=clients, unique=True)
  return SavedPartition(
    draw(st.text(max_size=5)),
    count,
    _DIGEST,
    np.array(sorted(order[cuts[-1] :]), np.int64),
    tuple(draw(ids)),
    _arrays(*([each] for each in order[:clients])),
    _arrays(*held),
  )


@support.quick
@given(_partitions())
def test_round_trip(saved):
  text = partition_file.to_text(saved)
  assert text.isascii() and text.count("\n") == 1
  assert _plain(partition_file.from_text(text, "f")) == _plain(saved)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "is not JSON: line 1: Expecting value"),
    ('{"format":\n"fedtiny-partition"', "is not JSON: line 2: "),
    ("\ufeff{}", "is not JSON: line 1: Unexpected UTF-8 BOM"),
    ("[" * 100_000, "is nested too deeply"),
    ('{"version": ' + "9" * 5000 + "}", "holds a number that is far too long"),
    ('{"version": 1, "version": 1}', "names a field twice in one object"),
    ("NaN", 'is not a partition file: "format" is not "fedtiny-partition"'),
    ("[]", "is not a partition file"),
    ('{"format": "other"}', "is not a partition file"),
    ('{"format": ["fedtiny-partition"]}', "is not a partition file"),
  ],
)
def test_text_that_is_no_partition_file(text, message):
  assert message in _refusal(text)


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    (["version"], 2, "is of version 2; this program reads 1"),
    (["version"], True, "is of version True"),
    (["version"], 1.0, "is of version 1.0"),
    (["note"], 1, "the file has an unknown field 'note'"),
    (["dataset"], None, "dataset is None, not a name"),
    (["train_examples"], 0, "train_examples is 0, not a number of examples"),
    (["train_examples"], -5, "train_examples is -5"),
    (["train_examples"], 10.0, "train_examples is 10.0"),
    (["train_examples"], True, "train_examples is True"),
    (["train_examples"], 10**18, "train_examples is 1000000000000000000,"),
    (["train_examples"], 10**99, "train_examples is 1" + "0" * 39 + "..., not"),
    (["content_sha256"], "A" * 64, "content_sha256 is 'AAAA"),
    (["content_sha256"], "ab", "content_sha256 is 'ab', not 64 hexadecimal digits"),
    (["content_sha256"], _DIGEST + "\n", "not 64 hexadecimal digits"),
    (["content_sha256"], [], "content_sha256 is a list"),
    (["clients"], [], "clients is not a list of at least one client"),
    (["clients"], {}, "clients is not a list of at least one client"),
    (["clients", 1], [], "clients[1] is a list, not an object"),
    (["clients", 1, "dev"], [], "clients[1] has an unknown field 'dev'"),
    (["clients", 1, "id"], 5, "clients[1].id is int 5, expected text"),
    (["clients", 1, "id"], "", "clients[1].id is empty"),
    (["clients", 1, "id"], "a\n\u202e\xe4", "clients[1].id has characters that no"),
    (["clients", 1, "id"], "anna", "clients[0] and clients[1] are both 'anna'"),
    (["clients", 1, "training"], [], "clients[1] has no training examples"),
    (["clients", 1, "training"], "12", "clients[1].training is '12', not a list"),
    (["public"], {"0": 1}, "public is an object, not a list of indices"),
    (["public"], [-1], "public holds -1, not an index below 10"),
    (["public"], [5, 10], "public holds 10, not an index below 10"),
    (["public"], [10**30], "public holds 1000000000000000000000000000000, not"),
    (["public", 0], True, "public holds True, not an index"),
    (["public", 0], 7.0, "public holds 7.0, not an index"),
    (["public", 0], float("nan"), "public holds nan, not an index"),
    (["public", 0], float("inf"), "public holds inf, not an index"),
    (["public", 0], [7], "public holds a list, not an index"),
    (["public", 0], "7", "public holds '7', not an index"),
    (["clients", 0, "development"], ["x"], "clients[0].development holds 'x'"),
    (["clients", 1, "training"], [3, 12], "clients[1].training holds 12"),
    (["public"], [7, 7], "index 7 is in public and again in public"),
    (["clients", 1, "development"], [0],
     "index 0 is in clients[0].training and again in clients[1].development"),
    (["clients", 1, "training"], [7],
     "index 7 is in public and again in clients[1].training"),
  ],
)  # fmt: skip
def test_documents_that_are_refused(path, value, message):
  assert message in _refusal(_changed(*path, value))


@pytest.mark.parametrize("key", sorted(set(_DOCUMENT) - {"format"}))
def test_a_missing_field_is_named(key):
  document = {name: value for name, value in _DOCUMENT.items() if name != key}
  message = _refusal(document)
  expected = "of version None" if key == "version" else f"the file has no field {key}"
  assert expected in message


def test_a_missing_field_of_a_client_is_named():
  document = copy.deepcopy(_DOCUMENT)
  del document["clients"][1]["development"]
  assert "clients[1] has no field development" in _refusal(document)


def test_a_huge_number_of_examples_needs_no_memory():
  document = _changed("train_examples", 2**40)
  document["public"] = [2**40 - 1]
  read = partition_file.from_text(json.dumps(document), "f")
  assert read.public.tolist() == [2**40 - 1]


_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
  lambda each: (
    st.lists(each, max_size=3)
    | st.dictionaries(st.sampled_from(["id", "training", "x"]), each, max_size=3)
  ),
  max_leaves=6,
)
_PATHS = [
  *([key] for key in _DOCUMENT),
  ["public", 0],
  ["clients", 0],
  *(["clients", 1, key] for key in ("id", "training", "development")),
  ["clients", 0, "training", 1],
]


def _read_or_refused(text):
  """Holds what is read to the definition of a partition."""
  try:
    read = partition_file.from_text(text, "f")
  except InputError as error:
    assert "\n" not in str(error)
    return
  parts = [read.public, *read.training, *read.development]
  indices = np.concatenate(parts)
  assert len(set(indices.tolist())) == len(indices)
  assert indices.min() >= 0 and indices.max() < read.train_examples
  assert len(set(read.client_ids)) == len(read.client_ids) == len(read.training)
  assert len(read.training) == len(read.development)
  assert all(len(part) for part in read.training)
  again = partition_file.from_text(partition_file.to_text(read), "f")
  assert _plain(again) == _plain(read)


@support.quick
@given(
  st.lists(st.tuples(st.sampled_from(_PATHS), _JSON | st.integers(0, 12)), max_size=2)
)
def test_changed_documents_are_valid_or_refused(changes):
  document = copy.deepcopy(_DOCUMENT)
  for path, value in sorted(changes, key=lambda change: -len(change[0])):
    place: Any = document
    for step in path[:-1]:
      place = place[step]
    place[path[-1]] = value
  _read_or_refused(json.dumps(document))


@support.quick
@given(_JSON)
def test_any_json_is_refused(value):
  with pytest.raises(InputError):
    partition_file.from_text(json.dumps(value), "f")


@support.quick
@given(
  st.integers(0, len(json.dumps(_DOCUMENT))),
  st.integers(0, 20),
  st.text('{}[]",:0123456789-.eE', max_size=4),
)
def test_changed_text_is_valid_or_refused(start, count, inserted):
  text = json.dumps(_DOCUMENT)
  _read_or_refused(text[:start] + inserted + text[start + count :])


class TestCheck:
  def test_the_same_data(self):
    partition_file.check(_saved(), "toy", 10, _DIGEST)

  @pytest.mark.parametrize(
    ("arguments", "message"),
    [
      (("digits", 10, _DIGEST), "made for dataset 'toy', this is 'digits'; give"),
      (("toy", 11, _DIGEST), "made for 10 training examples, toy has 11 here; give"),
      (("toy", 10, "f" * 64), "made for other training examples than those of toy"),
    ],
  )
  def test_other_data(self, arguments, message):
    with pytest.raises(InputError) as caught:
      partition_file.check(_saved(), *arguments)
    assert message in str(caught.value)
    assert str(caught.value).endswith(
      "; give the partition.json of a run on the same data, or leave the flag out"
    )
