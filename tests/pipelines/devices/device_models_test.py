"""Every model that there is can be trained on a device, in builtin operators."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from fedtiny_tff.models import registry
from fedtiny_tff.models import table as model_table
from fedtiny_tff.strategies import registry as strategies
from pipelines.devices import device_target
from pipelines.models import cost_figures, planned_model
from tests.pipelines import support
from tflite_export.artifacts import ExportRequest
from tflite_export.devices import device_client
from tflite_export.provenance import Provenance

_ROWS = 3
# ResNet18 and VGG11 take minutes and have no layer that others do not have.
_TOO_LARGE = ("resnet18", "vgg11_bn")
# One row a model, of those that differ in width the narrowest.
_MODELS = {
  row.name: row
  for row in sorted(model_table.ROWS, key=lambda row: -row.width)
  if row.name not in _TOO_LARGE
}.values()


@pytest.mark.slow
@pytest.mark.parametrize("row", _MODELS, ids=lambda row: f"{row.name}-{row.width}")
def test_a_model_is_exported_and_verified(row):
  made = support.make_config(
    model=row.name, width=row.width, batch_size=2, targets=[device_target.TARGET]
  )
  strategy = strategies.get_strategy(made.strategy)
  models = planned_model.plan_models(made, row.shape, row.num_classes, strategy)
  plan = cost_figures.expected_plan(strategy, models.trained, made.pruning, "none")
  model = planned_model.stand_in(models.trained, 0.1, plan.active_counts)
  planned_model.tame(model)
  generator = np.random.default_rng(0)
  inputs = generator.uniform(0, 1, (_ROWS, *row.shape)).astype(np.float32)
  spec = models.trained.spec
  request = ExportRequest(
    model=model,
    masks={
      each.name: model.get_layer(each.name).kernel.numpy() != 0 for each in spec.layers
    },
    task=registry.task_of(row.name),
    calibration=inputs,
    evaluation_inputs=inputs,
    evaluation_labels=None,
    class_names=tuple(map(str, range(row.num_classes or 0))),
    provenance=Provenance(row.name, "1", "", "", {}, "", ""),
    device=device_target.planned_request(made, models, plan),
  )
  bundle = device_client.export_device_client(request)
  (artifact,) = bundle.artifacts
  assert artifact.max_abs_error < 1e-3
  signatures = Interpreter(
    model_content=bundle.files[f"{artifact.path}"]
  ).get_signature_list()
  adjusted = {f"top_gradients_{event.block}" for event in plan.events}
  assert adjusted <= set(signatures)
