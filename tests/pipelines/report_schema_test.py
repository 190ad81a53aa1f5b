"""Which reports fit the schema: good ones do, and a damaged one does not."""

import copy
from typing import Any

import jsonschema
import pytest

from tests.pipelines import report_schema
from tests.pipelines.handmade_reports import artifact, handmade_report

ANDROID = "export/android/fp32_sparse.tflite"
MCU = "export/mcu/model.tflite"


@pytest.fixture(name="schema", scope="module")
def fixture_schema():
  return report_schema.validator()


def test_the_schema_is_a_schema(schema):
  jsonschema.Draft202012Validator.check_schema(schema.schema)


@pytest.mark.parametrize(
  "artifacts",
  [
    [],
    [artifact(ANDROID)],
    [artifact(ANDROID, accuracy=None)],
    [artifact(MCU, format="int8_decode", arena_bytes=26_816)],
  ],
)
def test_good_reports_fit(schema, artifacts):
  schema.validate(handmade_report(artifacts))


def _with_objects(**changes):
  row: dict[str, Any] = {
    "compiler": "arm-none-eabi-g++ 12.2.1", "cpu": "cortex-m4", "source": "model_data.cc",
    "text_bytes": 0, "rodata_bytes": 4_960, "data_bytes": 0, "bss_bytes": 0,
  }  # fmt: skip
  made = artifact(MCU, firmware_objects=[row | changes])
  return handmade_report([made])


def test_objects_of_firmware_fit(schema):
  schema.validate(_with_objects())
  unfit: list[dict[str, Any]] = [
    {"text_bytes": -1}, {"bss_bytes": 0.5}, {"cpu": ""}, {"speed": 1},
  ]  # fmt: skip
  for changes in unfit:
    assert not schema.is_valid(_with_objects(**changes)), changes
  for name in _with_objects()["artifacts"][0]["firmware_objects"][0]:
    made = _with_objects()
    del made["artifacts"][0]["firmware_objects"][0][name]
    assert not schema.is_valid(made), name
  made = _with_objects()
  made["artifacts"][0]["firmware_objects"] = []
  assert not schema.is_valid(made)


def test_reports_from_before_there_were_objects_fit(schema):
  made = handmade_report([artifact(MCU)])
  del made["artifacts"][0]["firmware_objects"]
  schema.validate(made)


def test_what_was_not_computed_may_be_empty(schema):
  made = handmade_report()
  made["accuracy"]["dense"] = None
  made["selection"][0] |= {"loss": None, "accuracy": None}
  made["events"] = []
  schema.validate(made)


@pytest.mark.parametrize(
  "name",
  [
    "fp32_sparse", "fp16_sparse", "int8_sparse", "dynamic_range_sparse", "int8_decode",
    "fp32_dense", "fp16_dense", "int8_dense", "dynamic_range_dense",
  ],
)  # fmt: skip
def test_documented_formats_fit(schema, name):
  schema.validate(handmade_report([artifact(MCU, format=name)]))


def _required(schema, node, path=()):
  """Lists every required member that the handmade report has."""
  found = [(*path, name) for name in node.get("required", ())]
  for name, child in node.get("properties", {}).items():
    found += _required(schema, child, (*path, name))
  if "items" in node and "required" in node["items"]:
    found += _required(schema, node["items"], (*path, 0))
  if "$ref" in node:
    definition = schema["$defs"][node["$ref"].split("/")[-1]]
    found += _required(schema, definition, path)
  for child in node.get("allOf", ()):
    found += _required(schema, child, path)
  return found


def test_every_required_member_is_missed(schema):
  whole = handmade_report([artifact(ANDROID)])
  required = _required(schema.schema, schema.schema)
  assert len(required) > 60
  for *path, last in required:
    made = copy.deepcopy(whole)
    node = made
    for key in path:
      node = node[key]
    del node[last]
    assert not schema.is_valid(made), f"{path} without {last}"


def _remove(*keys):
  def damage(made):
    for key in keys[:-1]:
      made = made[key]
    del made[keys[-1]]

  return damage


def _put(value, *keys):
  def damage(made):
    for key in keys[:-1]:
      made = made[key]
    made[keys[-1]] = value

  return damage


@pytest.mark.parametrize(
  "damage",
  [
    _remove("density"),
    _remove("dataset", "test_examples"),
    _remove("accuracy", "sparse"),
    _remove("artifacts", 0, "max_abs_error"),
    _remove("cost", "dense"),
    _remove("cost", "dense", "download_bytes"),
    _remove("cost", "memory_bytes"),
    _remove("run", "seed"),
    _put(10.0, "density"),
    _put(97.5, "accuracy", "sparse"),
    _put(101, "accuracy", ANDROID),
    _put("fp32", "artifacts", 0, "format"),
    _put("/tmp/export/a.tflite", "artifacts", 0, "path"),
    _put(0, "artifacts", 0, "bytes"),
    _put(0.5, "artifacts", 0, "bytes"),
    _put(0, "artifacts", -1, "arena_bytes"),
    _put(2, "selection", 0, "chosen"),
    _put(-1, "events", 0, "round"),
    _put("1", "events", 0, "layers", 0, "grown"),
    _put([], "layers"),
    _put(-0.1, "seconds", "data"),
    _put("soon", "seconds", "data"),
    _put(1, "surprise"),
    _put(1, "dataset", "surprise"),
  ],
)
def test_a_damaged_report_does_not_fit(schema, damage):
  made = handmade_report([artifact(ANDROID), artifact(MCU, format="int8_decode")])
  schema.validate(made)
  damage(made)
  assert not schema.is_valid(made)
