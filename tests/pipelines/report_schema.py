"""The schema of `report.json`."""

import json

import jsonschema

from tests.pipelines import support


def validator() -> jsonschema.Draft202012Validator:
  """Returns what tells whether a report fits the schema."""
  text = (support.ROOT / "pipelines" / "report.schema.json").read_text()
  return jsonschema.Draft202012Validator(json.loads(text))
