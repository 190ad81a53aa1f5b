"""Ranges from the server's samples and from clients; files made with either."""

import io
import json

import jsonschema
import numpy as np
import pytest
import rich.console

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.quantisation import calibration
from fedtiny_tff.masked_models import activation_ranges as measured
from pipelines import export, run
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder, data_stage
from pipelines.exports import calibration_stage
from pipelines.runs import model_files
from pipelines.runs.run_directory import RunDirectory
from tests.pipelines import support
from tests.tflite_export import calibrating
from tflite_export.conversion.convert import convert, float_file
from tflite_export.file_format.activation_ranges import ActivationRanges
from tflite_export.runtimes import litert

# digits_cnn: input, four convolutions, pool, dense layer, logits.
TENSORS = 8
# Active values and their positions, 506 other parameters, mean and variance of 144
# channels of batch norm.
DOWN_BYTES = 4 * support.ACTIVE + 4 * (506 + 2 * 144)


@pytest.fixture(name="made", scope="module")
def fixture_made(tmp_path_factory):
  made = support.make_untrained_run(tmp_path_factory.mktemp("runs") / "made")
  directory = RunDirectory(made.path)
  data = data_stage.write_data(support.plan_data(made.config), directory.data)
  return directory, data


@pytest.fixture(name="model", scope="module")
def fixture_model(made):
  return model_files.load(made[0].model)[0]


def _calibrate(made, **changes):
  directory, data = made
  printed = io.StringIO()
  console = rich.console.Console(file=printed)
  found = calibration_stage.calibrate(
    support.make_config(**changes), directory, data, Progress(console)
  )
  return found, printed.getvalue()


def _training_inputs(data, clients, first=None):
  parts = []
  for client in clients:
    reference = data.reference(client)
    count = min(reference.training_examples, first or reference.training_examples)
    records = data.clients.read(reference.first_record, count)
    parts.append(data.clients.decode(records)[0].numpy())
  return np.concatenate(parts)


def _facts(**changes):
  return {
    "source": "public",
    "ranges": "minmax",
    "percentile": None,
    "samples": 30,
    "clients": 0,
    "bytes_up_per_client": 0,
    "bytes_down_per_client": 0,
  } | changes


def test_by_default_all_public_samples_are_given(made):
  found, said = _calibrate(made)
  np.testing.assert_array_equal(found.given, data_folder.read_all(made[1].public)[0])
  assert found.facts == _facts()
  assert found.described.startswith("On 30 of the server's public examples")
  assert said == ""


def test_some_public_samples_in_an_order_of_the_seed(made):
  everything = {row.tobytes() for row in data_folder.read_all(made[1].public)[0]}
  seven, _ = _calibrate(made, calibration_samples=7)
  assert seven.facts == _facts(samples=7)
  assert len({row.tobytes() for row in seven.given} & everything) == 7
  again, _ = _calibrate(made, calibration_samples=7)
  np.testing.assert_array_equal(seven.given, again.given)
  more, _ = _calibrate(made, calibration_samples=8)
  np.testing.assert_array_equal(seven.given, more.given[:7])
  other, _ = _calibrate(made, calibration_samples=7, seed=6)
  assert not np.array_equal(seven.given, other.given)
  # More than there are.
  found, _ = _calibrate(made, calibration_samples=31)
  assert found.facts == _facts()


def test_percentiles_of_public_samples(made):
  whole, _ = _calibrate(
    made, calibration_ranges="percentile", calibration_percentile=100.0
  )
  cut, _ = _calibrate(
    made, calibration_ranges="percentile", calibration_percentile=90.0
  )
  assert cut.facts == _facts(ranges="percentile", percentile=90.0)
  assert "the 90 % percentile" in cut.described
  assert isinstance(cut.given, ActivationRanges)
  assert (cut.given.maximum <= whole.given.maximum).all()
  assert cut.given.maximum[0] < whole.given.maximum[0]


def test_clients_find_what_their_data_together_give(made, model):
  """With every client, as if the converter had seen all training examples."""
  found, said = _calibrate(made, calibration_source="clients", clients_per_round=4)
  rows = _training_inputs(made[1], range(4))
  content = float_file(model)
  wanted = calibrating.converters_ranges(content, rows)
  assert found.given.names == wanted.names
  np.testing.assert_allclose(found.given.minimum, wanted.minimum, atol=1e-5)
  np.testing.assert_allclose(found.given.maximum, wanted.maximum, atol=1e-5)
  positions = -(-support.PRUNABLE // 8)
  assert found.facts["bytes_down_per_client"] in range(
    DOWN_BYTES, DOWN_BYTES + positions + 1
  )
  assert found.facts == _facts(
    source="clients", samples=len(rows), clients=4, bytes_up_per_client=TENSORS * 8,
    bytes_down_per_client=found.facts["bytes_down_per_client"],
  )  # fmt: skip
  assert "activation ranges from 4 clients" in said
  test_inputs = data_folder.read_all(made[1].test)[0][:50]
  outputs = [
    litert.run(convert(model, "int8_dense", given), test_inputs)
    for given in (found.given, rows)
  ]
  quantum = (wanted.maximum[-1] - wanted.minimum[-1]) / 255
  assert np.abs(outputs[0] - outputs[1]).max() <= 1.01 * quantum


def test_only_the_clients_of_a_cohort_are_asked_and_their_first_samples(made):
  found, _ = _calibrate(made, calibration_source="clients", calibration_samples=3)
  assert (found.facts["clients"], found.facts["samples"]) == (3, 9)
  inputs = [
    _training_inputs(made[1], set(range(4)) - {absent}, first=3) for absent in range(4)
  ]
  # The first activation is the input.
  ends = {(rows.min(), rows.max()) for rows in inputs}
  assert (found.given.minimum[0], found.given.maximum[0]) in ends


def test_percentiles_from_clients(made):
  changes = {"calibration_source": "clients", "calibration_ranges": "percentile"}
  found, _ = _calibrate(
    made, clients_per_round=4, calibration_percentile=90.0, **changes
  )
  rows = _training_inputs(made[1], range(4))
  part = (rows.max() - rows.min()) / 2048
  ordered = np.sort(rows, axis=None)
  kept = int(np.ceil(0.9 * rows.size))
  assert found.given.maximum[0] == pytest.approx(ordered[kept - 1], abs=part)
  assert found.given.minimum[0] == pytest.approx(ordered[-kept], abs=part)
  assert found.facts["bytes_up_per_client"] == TENSORS * 8 + TENSORS * 2048 * 8
  assert found.facts["percentile"] == 90.0


@pytest.mark.parametrize("ranges", ["minmax", "percentile"])
def test_what_is_no_range_is_refused_by_tensor(made, ranges):
  """The server learns of a client's NaN as an infinite range."""
  low, high = np.zeros(2, np.float32), np.array([1, np.inf], np.float32)
  whole = measured.Ranges(low, high)
  counts = np.ones((2, measured.BINS), np.int64)
  learnt = {"minmax": whole, "percentile": calibration.RangesAndCounts(whole, counts)}
  config = support.make_config(calibration_ranges=ranges)
  with pytest.raises(InputError, match=r"activation 'b' has the range \[0, inf\]"):
    calibration_stage._ranges(config, ("a", "b"), learnt[ranges])


@pytest.mark.slow
def test_an_export_may_ask_the_clients_and_says_so(made, capsys):
  directory, _ = made
  command = [f"--run_dir={directory.path}", "--targets=mcu"]
  content: dict[str, bytes] = {}
  for source in ("public", "clients", "clients"):
    arguments = [*command, f"--calibration_source={source}"]
    assert support.call("export", export.main, *arguments) == 0
    made_before = content.get(source)
    content[source] = (directory.path / support.MCU_FILES[0]).read_bytes()
    assert made_before in (None, content[source])
  assert content["public"] != content["clients"]
  report = directory.read_report()
  assert report["calibration"]["mcu"]["source"] == "clients"
  schema = json.loads((support.ROOT / "pipelines" / "report.schema.json").read_text())
  jsonschema.Draft202012Validator(schema).validate(report)
  # Of the run's own flags nothing has changed.
  assert "--calibration_source=public" in directory.flags.read_text()
  assert "from 3 clients" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_without_any_data_on_the_server(tmp_path):
  """The whole way: no pre-training, selection, one round, both targets verified."""
  changes = {
    "public_samples_per_class": 0,
    "rounds": 1,
    "quantisation_aware": "never",
    "adjust_until_round": 0,
    "width": 0.5,
  }
  flagfile = support.write_flagfile(tmp_path / "no_data.flags", support.TINY | changes)
  arguments = [f"--flagfile={flagfile}", "--nodense_baseline"]
  path = tmp_path / "run"
  assert support.call("run", run.main, *arguments, f"--output_dir={path}") == 0
  report = RunDirectory(path).read_report()
  assert report["dataset"]["public_examples"] == 0
  assert [row["path"] for row in report["artifacts"]] == support.TFLITES
  for target in ("android", "mcu"):
    facts = report["calibration"][target]
    assert (facts["source"], facts["clients"]) == ("clients", 3)
  agreement = [row["argmax_agreement"] for row in report["artifacts"]]
  assert min(agreement) > 0.8
