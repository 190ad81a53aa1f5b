"""A plan is read as it was written, and says what every message consists of."""

import copy
import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.devices import device_plan
from fedtiny_tff.devices.device_messages import TensorLayout
from fedtiny_tff.devices.device_plan import DevicePlan, PlannedBlock, PlannedModel
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.support import quick
from tests.tflite_export.processes import loaded_by

PLAN = DevicePlan(
  PlannedModel("tiny", "ab" * 32, (4, 2), "classify", 40, 10, 5, 6, 8, 1, 3),
  seed=2**62, rounds=9, batch_size=4, local_epochs=2, max_local_steps=0,
  blocks=(
    PlannedBlock(("stem",), {}),
    PlannedBlock(
      ("hidden", "logits"),
      {
        "indices": TensorLayout("int32", (3,)), "values": TensorLayout("float32", (3, 2)),
      },
    ),
  ),
)  # fmt: skip
# What stands in the file.
DOCUMENT: dict[str, Any] = {
  "version": 1,
  "model": {
    "name": "tiny", "sha256": "ab" * 32, "input_shape": [4, 2], "task": "classify",
    "prunable": 40, "active": 10, "dense": 5, "batch_norm": 6,
    "position_bytes": 8, "position_low_bits": 1, "classes": 3,
  },
  "seed": 2**62, "rounds": 9, "batch_size": 4, "local_epochs": 2, "max_local_steps": 0,
  "blocks": [
    {"layers": ["stem"], "statistics": {}},
    {
      "layers": ["hidden", "logits"],
      "statistics": {
        "indices": {"dtype": "int32", "shape": [3]},
        "values": {"dtype": "float32", "shape": [3, 2]},
      },
    },
  ],
}  # fmt: skip


def read(document) -> DevicePlan:
  return device_plan.read_plan(json.dumps(document), "plan.json")


def test_the_text():
  assert json.loads(PLAN.as_json()) == DOCUMENT
  # Sorted, and a line each: the same plan is the same bytes, whoever writes it.
  assert PLAN.as_json() == json.dumps(DOCUMENT, indent=2, sort_keys=True) + "\n"


def test_the_digest_is_that_of_the_text():
  assert PLAN.digest == hashlib.sha256(PLAN.as_json().encode()).hexdigest()
  assert dataclasses.replace(PLAN, rounds=8).digest != PLAN.digest
  turned = dict(reversed(PLAN.blocks[1].statistics.items()))
  blocks = (PLAN.blocks[0], PlannedBlock(("hidden", "logits"), turned))
  assert dataclasses.replace(PLAN, blocks=blocks).digest == PLAN.digest


def test_a_plan_is_read_as_it_was_written():
  assert device_plan.read_plan(PLAN.as_json(), "plan.json") == PLAN
  assert read(DOCUMENT) == PLAN


_COUNTS = st.integers(0, 10**6)
_SHAPES = st.lists(st.integers(0, 20), max_size=3).map(tuple)
_LAYOUTS = st.builds(TensorLayout, st.sampled_from(["float32", "int32"]), _SHAPES)
_MODELS = st.builds(
  PlannedModel,
  *(
    st.text(max_size=4),
    st.text(max_size=4),
    _SHAPES,
    st.sampled_from(["classify", "reconstruct"]),
  ),
  *([_COUNTS] * 7),
)
_BLOCKS = st.builds(
  PlannedBlock,
  st.lists(st.text(max_size=4), max_size=3).map(tuple),
  st.dictionaries(st.text(max_size=4), _LAYOUTS, max_size=2),
)
_PLANS = st.builds(
  DevicePlan,
  _MODELS,
  *(st.integers(0, 2**62), st.integers(0, 2**31 - 1), st.integers(2, 2**10)),
  *([_COUNTS] * 2),
  st.lists(_BLOCKS, max_size=3).map(tuple),
)


@quick
@given(_PLANS)
def test_any_plan_is_read_as_it_was_written(plan):
  found = device_plan.read_plan(plan.as_json(), "plan.json")
  assert found == plan
  assert found.digest == plan.digest


def _places(value, path=()):
  """Yields the way to everything within a document."""
  inner: Any = ()
  if isinstance(value, dict):
    inner = value.items()
  elif isinstance(value, list):
    inner = enumerate(value)
  for key, each in inner:
    yield (*path, key)
    yield from _places(each, (*path, key))


def _changed(path, value):
  document = copy.deepcopy(DOCUMENT)
  place = document
  for key in path[:-1]:
    place = place[key]
  place[path[-1]] = value
  return document


_ANYTHING = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
  lambda inner: (
    st.lists(inner, max_size=2)
    | st.dictionaries(st.text(max_size=3), inner, max_size=2)
  ),
  max_leaves=4,
)


@quick
@given(st.sampled_from(list(_places(DOCUMENT))), _ANYTHING)
def test_whatever_is_read_says_what_was_written(path, value):
  """Nothing becomes another value on the way; what would is refused in a line."""
  document = _changed(path, value)
  try:
    found = read(document)
  except InputError as refused:
    assert str(refused).startswith("plan.json: is ")
    assert "\n" not in str(refused)
  else:
    assert found.as_json() == json.dumps(document, indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize(
  ("path", "value", "found"),
  [
    (("rounds",), 9.0, r"9\.0 is no number of things"),
    (("rounds",), "9", "'9' is no number of things"),
    (("seed",), -1, "-1 is no number of things"),
    (("seed",), True, "True is no number of things"),
    (("model", "active"), -1, "-1 is no number of things"),
    (("model", "input_shape"), "42", "'42' is no list"),
    (("model", "input_shape", 1), None, "None is no number of things"),
    (("model", "name"), None, "None is no text"),
    (("model", "more"), 1, "'more'"),
    (("more",), 1, "'more'"),
    (("model",), 7, "TypeError|AttributeError"),
    (("blocks", 0, "layers"), "stem", "'stem' is no list"),
    (("blocks", 0, "layers", 0), 5, "5 is no text"),
    (("blocks", 1, "statistics", "values", "shape", 0), -3, "-3 is no number"),
    (("blocks", 1, "statistics", "values"), {"dtype": "int32"}, "KeyError: 'shape'"),
    (("blocks", 1, "statistics", "values", "dtype"), "float31", "'float31' is no type"),
    (
      ("blocks", 1, "statistics", "values", "dtype"),
      ["int32"],
      r"'int32'\] is no type",
    ),
    (
      ("blocks", 1, "statistics", "values", "shape"),
      [0, 10**12],
      "is more than 214748",
    ),
    (
      ("blocks", 1, "statistics", "values", "shape"),
      [2**15] * 9,
      "block 1 has [0-9]+ by",
    ),
    (
      ("model", "dense"),
      10**30,
      "1000000000000000000000000000000 is more than 2147483647",
    ),
    (
      ("model", "dense"),
      2**28,
      "a candidate has 1073[0-9]+ bytes, the most are 107374",
    ),
    (("model", "batch_norm"), 2**28, "a candidate has 2147[0-9]+ bytes"),
    (("model", "prunable"), 2**31 - 1, "the model has 8590[0-9]+ bytes"),
    (("model", "input_shape"), [2**20, 2**20], "a batch has 1759[0-9]+ bytes"),
    (("seed",), 2**62 + 1, "is more than 4611686018427387904"),
    (("batch_size",), 1, "batch_size is 1, the least is 2"),
  ],
)
def test_what_is_no_plan_is_refused(path, value, found):
  message = (
    rf"^plan\.json: is no plan of a device \(.*{found}.*\); take the client_plan"
  )
  with pytest.raises(InputError, match=message):
    read(_changed(path, value))


def test_what_is_missing_is_named():
  document = {name: value for name, value in DOCUMENT.items() if name != "batch_size"}
  with pytest.raises(InputError, match="'batch_size'"):
    read(document)


@pytest.mark.parametrize(
  "text",
  ["", "[]", "{}", "3", '"x"', pytest.param("[" * 100_000, id="deep")],
)
def test_other_texts_are_refused(text):
  with pytest.raises(InputError, match=r"^plan\.json: is no plan of a device \("):
    device_plan.read_plan(text, "plan.json")


@pytest.mark.parametrize("version", [2, "1", None])
def test_another_version_is_refused_and_only_that_mend_is_named(version):
  with pytest.raises(InputError) as refused:
    read(DOCUMENT | {"version": version})
  assert str(refused.value) == (
    f"plan.json: is a plan of version {version!r}, expected 1; export it again with this "
    "release"
  )


# 10 of 40 weights, 5 others, 6 channels.
VALUES = {
  "active_values": TensorLayout("float32", (10,)),
  "dense": TensorLayout("float32", (5,)),
}
CHANNELS = TensorLayout("float32", (6,))
ONE = TensorLayout("float32", (1,))


def test_what_the_server_sends():
  model = {
    **VALUES,
    "positions": TensorLayout("uint8", (8,)),
    "batch_norm_mean": CHANNELS,
    "batch_norm_variance": CHANNELS,
  }
  assert PLAN.model_layouts() == model
  for block, layers in ((None, 0), (0, 1), (1, 2)):
    counts = TensorLayout("int32", (layers,))
    assert PLAN.round_layouts(block) == {
      **model,
      "learning_rate": ONE,
      "counts": counts,
    }


def test_what_a_device_sends():
  update = {
    **VALUES,
    "mean_offset": CHANNELS,
    "second_moment": CHANNELS,
    **dict.fromkeys(("loss_sum", "correct", "examples", "weight"), ONE),
  }
  assert PLAN.update_layouts(None) == PLAN.update_layouts(0) == update
  assert PLAN.update_layouts(1) == {
    **update,
    "statistics.indices": TensorLayout("int32", (3,)),
    "statistics.values": TensorLayout("float32", (3, 2)),
  }
  moments = dict.fromkeys(("count", "first", "second"), TensorLayout("float64", (6,)))
  assert PLAN.moment_layouts() == moments


def test_what_is_sent_whatever_the_plan():
  assert device_plan.metric_layouts() == dict.fromkeys(
    ("loss_sum", "correct", "examples"), ONE
  )
  assert device_plan.hello_layouts() == dict.fromkeys(
    ("training_examples", "held_out_examples"), TensorLayout("int64", (1,))
  )


def test_needs_no_tensorflow():
  assert loaded_by(("fedtiny_tff.devices.device_plan",), ("tensorflow",)) == []
