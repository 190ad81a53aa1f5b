"""The plan of a run, and that the run then keeps to it."""

import io
import json

import pytest
import rich.console
from absl.testing import flagsaver

from fedtiny_tff.errors import InputError
from fedtiny_tff.protection.aggregation_config import WEIGHTED_MEAN
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import registry as strategies
from pipelines import stages
from pipelines.apps.progress import Progress
from pipelines.models import cost_figures
from pipelines.planning import dry_run, dry_run_command, dry_run_text, planned_rounds
from pipelines.runs.run_directory import RunDirectory
from pipelines.training import experiments
from tests.pipelines import support


def _quiet():
  return Progress(rich.console.Console(file=io.StringIO()))


@pytest.fixture(name="plan", scope="module")
def fixture_plan(tmp_path_factory):
  """Returns the tiny run's plan, and where it would have been."""
  folder = tmp_path_factory.mktemp("plan") / "run"
  made = support.make_config(output_dir=str(folder), layer_densities="uniform")
  return dry_run.make_plan(made, _quiet(), exports=True), folder


def test_nothing_is_written(plan):
  assert not plan[1].exists()
  assert list(plan[1].parent.iterdir()) == []


def test_the_data_and_the_rounds_are_those_of_the_flags(plan):
  data, rounds = plan[0]["data"], plan[0]["rounds"]
  assert (data["clients"], len(data["classes"]), data["input_shape"]) == (
    4,
    10,
    [8, 8, 1],
  )
  assert data["public_examples"] == 3 * 10
  assert data["smallest_client"] <= data["median_client"] <= data["largest_client"]
  assert (rounds["rounds"], rounds["clients_per_round"]) == (4, 3)
  assert rounds["dense_baseline"]
  assert plan[0]["selection"]["candidates"] == 3


def test_events_name_layers_and_weights(plan):
  events = plan[0]["events"]
  # Of three blocks, from the output: conv2; conv3 and conv4; dense1 and logits.
  assert [(event["round"], event["block"]) for event in events] == [(1, 2), (2, 1)]
  assert [layer["name"] for layer in events[0]["layers"]] == ["dense1", "logits"]
  # 4,096 · 0.1 active; ceil(0.15 · (1 + cos(π / 3)) · 409) = 93.
  assert events[0]["layers"][0] == {
    "name": "dense1",
    "weights_moved": schedules.adjustment_count(1, 3, 409, 4096),
    "weights": 4096,
  }
  assert events[0]["layers"][0]["weights_moved"] == 93


def test_the_figures_can_be_printed_and_are_json(plan):
  shown = json.loads(json.dumps(plan[0]))
  for width in (40, 80, 200):
    stream = io.StringIO()
    dry_run_text.show(shown, rich.console.Console(file=stream, width=width))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "Nothing was trained" in " ".join(text.split())
  assert "dense1 93" in text
  assert "android fp32_sparse" in text


def test_the_estimate_says_how_it_was_got(plan):
  estimate = plan[0]["estimate"]
  assert estimate["minutes"] > 0.0
  assert "timed in some training steps" in estimate["how"]


def test_what_cannot_be_run_cannot_be_planned():
  made = support.make_config(model="resnet8", prune_for="xnnpack")
  with pytest.raises(InputError, match="--prune_for=xnnpack"):
    dry_run.make_plan(made, _quiet(), exports=False)


@pytest.mark.parametrize("everybody", [True, False])
def test_masks_that_clients_hold_are_not_sent_again(everybody):
  made = support.make_config(
    layer_densities="uniform", rounds=20, adjust_every_rounds=10, adjust_until_round=11,
    clients_per_round=0,
  )  # fmt: skip
  experiment = experiments.plan_experiment(made)
  strategy = strategies.get_strategy("fedtiny")
  counted = cost_figures.expected_plan(
    strategy, experiment.definition, made.pruning, "adaptive"
  )
  sizes = cost_figures.CostModel(
    experiment.definition, cost_figures.device_cost.Workload(10, 1, 10)
  ).vector_sizes
  planned = planned_rounds.plan_traffic(
    sizes, experiment.models, counted, 20, WEIGHTED_MEAN, everybody
  )
  down = {number: down for number, down, _ in planned.rounds}
  # Round 0 sends the mask; 10 adjusts two layers, told in 4 bytes each; 11 sends the new.
  assert sorted(down) == ([0, 1, 10, 11, 12] if everybody else [0, 10, 11])
  assert down[10] == down[0] + 2 * 4
  assert down[11] == down[0]
  if everybody:
    assert down[1] == down[12] < down[0]
  total = sum(
    next(down[n] for n in range(number, -1, -1) if n in down) for number in range(20)
  )
  assert planned.download_bytes == total


@pytest.mark.parametrize("dry", [True, False])
def test_a_format_is_that_of_a_plan(dry):
  with flagsaver.as_parsed(dry_run=str(dry), format="json"):
    if dry:
      assert dry_run_command.is_asked()
    else:
      with pytest.raises(InputError, match="--format is that of --dry_run"):
        dry_run_command.is_asked()


@pytest.mark.slow
def test_a_run_keeps_to_its_plan(plan, tmp_path):
  planned, _ = plan
  made = support.make_config(
    output_dir=str(tmp_path / "run"), layer_densities="uniform"
  )
  with RunDirectory(made.output_dir) as run:
    stages.train(made, run, _quiet())
    report = stages.export(made, run, made.targets, _quiet())
    rows = run.metrics.read_text().splitlines()
  names = rows[0].split(",")
  found = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:]]
  for way, name in (("down", "download_bytes"), ("up", "upload_bytes")):
    total = sum(int(row[f"bytes_{way}_per_client"]) for row in found)
    assert total == planned["traffic"][name]
  assert [
    (event["round"], event["block"], [each["dropped"] for each in event["layers"]])
    for event in report["events"]
  ] == [
    (
      event["round"],
      event["block"],
      [each["weights_moved"] for each in event["layers"]],
    )
    for event in planned["events"]
  ]
  sizes = {row["path"]: row["bytes"] for row in planned["exports"]}
  for row in report["artifacts"]:
    expected = sizes[row["path"].removeprefix("export/")]
    assert row["bytes"] == pytest.approx(expected, rel=0.03), row["path"]
