"""What a method costs a device, per round, without running anything."""

import json
import math
from typing import Any, Optional

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.apps import app
from pipelines.settings import run_flags
from pipelines.settings.format_flag import FORMAT

_SUMMARY = """
Tells what a method costs a device: arithmetic, memory, bytes on the wire and in
storage, beside dense FedAvg. Nothing is run and no data are needed.

  python -m pipelines.cost --model=resnet18 --strategy=fedtiny --target_density=0.01

The method is that of --strategy. Layers keep the weights of --layer_densities; for
noisy and noisy_erk, which differ from run to run, their means, which are uniform and
erk. Other flags of a run
are allowed and have no influence.
"""

_LOCAL_SAMPLES = flags.DEFINE_integer(
  "local_samples", 5000, "Training examples of the device."
)
_NUM_CLASSES = flags.DEFINE_integer(
  "num_classes",
  None,
  "Classes of the data; without it, those the model was made for. A model of your own "
  "that has classes needs it.",
)
_INPUT_SHAPE = flags.DEFINE_list(
  "input_shape",
  None,
  "Shape of an example, such as 32,32,3; without it, that the model was made for. A "
  "model of your own needs it.",
)

_GROUPS = {
  "Model": ["model", "width", "input_shape", "num_classes"],
  "Pruning": [
    "strategy", "target_density", "pool_size", "layer_densities", "selection",
    "prune_for", "channel_block", "rounds", "adjust_every_rounds",
    "adjust_until_round", "granularity", "adjust_order",
  ],
  "Device": ["local_samples", "local_epochs", "max_local_steps", "batch_size"],
  "Output": ["format"],
}  # fmt: skip

# Rows of the table; every figure is in the JSON.
_ROWS = {
  "density": "density of the prunable weights",
  "density_all_parameters": "density of all parameters",
  "forward_flops": "FLOPs, forward, an example",
  "training_flops_per_round": "FLOPs, ordinary round",
  "adjust_round_flops": "FLOPs, adjustment round, an example",
  "memory_bytes": "memory at its peak, bytes",
  "parameter_bytes": "  parameters",
  "gradient_bytes": "  gradients",
  "index_bytes": "  indices",
  "buffer_bytes": "  adjustment buffer",
  "activation_bytes": "activations of a batch, bytes",
  "upload_bytes": "upload, ordinary round, bytes",
  "adjust_upload_bytes": "upload, adjustment round, bytes",
  "download_bytes": "download, a round, bytes",
  "position_bytes": "  of it positions of weights",
  "download_bytes_mask_held": "  without them",
  "selection_download_bytes": "download, selection, once, bytes",
  "selection_upload_bytes": "upload, selection, once, bytes",
  "stored_bytes": "stored float32 model, bytes",
}

# Far above what any device holds; the largest models of it fit TensorFlow's shapes.
_LARGEST_COUNT = 10**9


def _in_range(name: str, value: int) -> int:
  if not 1 <= value <= _LARGEST_COUNT:
    raise InputError(f"--{name} must be in [1, {_LARGEST_COUNT}], got {value}")
  return value


def _input_shape() -> Optional[tuple[int, ...]]:
  given = _INPUT_SHAPE.value
  if given is None:
    return None
  if not given or not all(side.strip().isdecimal() for side in given):
    raise InputError(
      f"--input_shape must be whole numbers such as 32,32,3, got {','.join(given)!r}"
    )
  shape = tuple(int(side) for side in given)
  values = math.prod(shape)
  if not 1 <= values <= _LARGEST_COUNT:
    raise InputError(
      f"--input_shape must hold 1 to {_LARGEST_COUNT} values, got {values} for {shape}"
    )
  return shape


def _num_classes() -> Optional[int]:
  given = _NUM_CLASSES.value
  return None if given is None else _in_range("num_classes", given)


def _figures() -> dict[str, Any]:
  from fedtiny_tff.costs import device_cost
  from fedtiny_tff.strategies import registry
  from pipelines.models import cost_figures
  from pipelines.settings import config as config_lib

  values = {name: flags.FLAGS[name].value for name in run_flags.names()}
  config = config_lib.make_config(values)
  strategy = registry.get_strategy(config.strategy)
  samples = _in_range("local_samples", _LOCAL_SAMPLES.value)
  data = cost_figures.find_data(config.model, _input_shape(), _num_classes())
  models = cost_figures.plan_models(config, data, strategy)
  if _NUM_CLASSES.present and not models.full.task.has_classes:
    raise InputError(
      f"--num_classes: model {config.model!r} has no classes; leave the flag out"
    )
  plan = cost_figures.expected_plan(
    models.strategy, models.trained, config.pruning, config.selection
  )
  workload = device_cost.Workload(
    samples, config.local_epochs, config.batch_size, config.max_local_steps
  )
  model = cost_figures.CostModel(models.trained, workload, models.full)
  return {
    "model": config.model,
    "width": config.width,
    "input_shape": list(data.input_shape),
    "num_classes": data.num_classes,
    "strategy": strategy.name,
    **model.forecast(models.strategy, plan),
  }


def _print_table(figures: dict[str, Any]) -> None:
  import rich.console
  import rich.table

  own, dense = figures, figures["dense"]
  shape = "×".join(map(str, own["input_shape"]))
  title = f"{own['strategy']}, {own['model']} at width {own['width']:g}, {shape}"
  table = rich.table.Table(title=title)
  table.add_column("per device", overflow="fold")
  for heading in (own["strategy"], "dense", "ratio"):
    table.add_column(heading, justify="right", overflow="fold")
  for name, label in _ROWS.items():
    ratio = f"{100 * own[name] / dense[name]:.3f} %" if dense[name] else "-"
    table.add_row(label, _number(own[name]), _number(dense[name]), ratio)
  console = rich.console.Console(markup=False, emoji=False)
  console.print(table)
  forms = ", ".join(f"{name} {n}" for name, n in own["stored_layers"].items() if n)
  console.print(f"Layers by form of storage: {forms}", highlight=False, soft_wrap=True)


def _number(value: float) -> str:
  if isinstance(value, int):
    return f"{value:,}"
  return f"{value:.4g}"


def main() -> Optional[int]:
  """Prints the figures."""
  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  flag_values.check_flags()
  with Progress().waiting("building the model and counting"):
    figures = _figures()
  if FORMAT.value == "json":
    print(json.dumps(figures, indent=2))
  else:
    _print_table(figures)
  return None


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, _GROUPS))
