"""Whether the density chosen for a microcontroller's memory holds for real masks.

For budgets of flash, of RAM and of both, the density is chosen as `pipelines.run` does,
by stand-ins of equal layer densities. Then models with FedTiny's noisy layer densities
are exported under the same budgets; the export refuses what does not fit.
"""

from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from benchmarks import results_file
from fedtiny_tff.model_structure import definition
from fedtiny_tff.models import registry
from fedtiny_tff.sparsity import candidates
from fedtiny_tff.version import VERSION
from pipelines.models import density_budget
from pipelines.models.density_search import choose, with_reserve
from tflite_export.artifacts import ExportRequest
from tflite_export.file_format import flatbuffer_model
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers import c_source, mcu, mcu_verify
from tflite_export.microcontrollers.mcu_budget import Footprint
from tflite_export.provenance import Provenance

_MOST_DENSITY = 0.3
_ROWS = 8


class Case(NamedTuple):
  """A model and the memory there is for it, in kB of 1,024 bytes; None is no limit."""

  model: str
  input_shape: tuple[int, ...]
  classes: int
  flash_kb: Optional[int]
  ram_kb: Optional[int]

  @property
  def definition(self) -> definition.ModelDefinition:
    """The model."""
    return registry.get_model(self.model, self.input_shape, self.classes)

  @property
  def options(self) -> McuOptions:
    """The budgets in bytes."""
    flash, ram = (
      None if kb is None else 1024 * kb for kb in (self.flash_kb, self.ram_kb)
    )
    return McuOptions(flash_bytes=flash, ram_bytes=ram)

  @property
  def class_names(self) -> tuple[str, ...]:
    """A name for each class."""
    return tuple(str(number) for number in range(self.classes))


# Flash alone, RAM alone, both, and too little RAM to decode every layer.
_BUDGETS = {
  ("digits_cnn", (8, 8, 1), 10): ((12, None), (None, 20), (16, 28), (30, 18)),
  ("ds_cnn", (49, 10, 1), 12): ((18, None), (None, 28), (18, 32), (29, 28)),
  ("resnet8", (32, 32, 3), 10): ((32, None), (None, 64), (32, 68), (60, 60)),
}
CASES = tuple(
  Case(*model, *budget) for model, budgets in _BUDGETS.items() for budget in budgets
)


def noisy_model(
  case: Case, density: float, seed: int
) -> tuple[tf.keras.Model, dict[str, np.ndarray]]:
  """Returns a model with the first candidate's mask of a seed, and its masks by layer."""
  found = case.definition
  model = found.build()
  found.set_initial_weights(model, seed)
  generator = np.random.default_rng(seed)
  for variable in model.variables:
    # The converter drops biases of zero, and trained ones are not.
    if variable.name.endswith(("beta:0", "bias:0", "moving_mean:0")):
      variable.assign(generator.normal(scale=0.1, size=variable.shape))
  kernels = [model.get_layer(layer.name).kernel for layer in found.spec.layers]
  (mask,) = candidates.candidate_masks(
    np.concatenate([kernel.numpy().reshape(-1) for kernel in kernels]),
    found.spec,
    density=density,
    pool_size=1,
    layer_densities="noisy",
    seed=seed,
  )
  masks = found.spec.masks_by_layer(mask)
  for kernel, kept in zip(kernels, masks.values(), strict=True):
    # What stays grows, as in training: else little of the input reaches the output.
    kernel.assign(kernel.numpy() * kept / np.sqrt(density))
  return model, masks


def exported(case: Case, density: float, seed: int) -> tuple[Footprint, int]:
  """Exports a noisy model under the case's budgets.

  Returns:
    What the export takes, and how many tensors are decoded.

  Raises:
    BudgetError: It does not fit.
  """
  model, masks = noisy_model(case, density, seed)
  rows = np.random.default_rng(seed).normal(size=(_ROWS, *case.input_shape))
  bundle = mcu.export_mcu(
    ExportRequest(
      model=model,
      masks=masks,
      task=case.definition.task,
      calibration=rows.astype(np.float32),
      evaluation_inputs=rows.astype(np.float32),
      evaluation_labels=None,
      class_names=case.class_names,
      provenance=Provenance(
        case.model, VERSION, "CC0-1.0", "Random.", {}, "Noise.", "noise"
      ),
      mcu=case.options,
    )
  )
  content = bundle.files[mcu_verify.MODEL_PATH]
  (arena_bytes,) = (
    row.arena_bytes for row in bundle.artifacts if row.path == mcu_verify.MODEL_PATH
  )
  assert arena_bytes is not None
  arrays_bytes = c_source.array_bytes(content, case.class_names)
  return Footprint(len(content) + arrays_bytes, arena_bytes), _decoded(content)


def _decoded(model_bytes: bytes) -> int:
  """Returns how many tensors are decoded."""
  model = flatbuffer_model.read_model(model_bytes)
  return sum(
    len(operator.outputs)
    for operator in model.subgraphs[0].operators
    if model.operatorCodes[operator.opcodeIndex].customCode == b"TFLM_DECODE"
  )


def measure(case: Case, seeds: int = 8) -> dict[str, Any]:
  """Chooses a density and exports models of it, one for each seed."""
  found, tight = case.definition, with_reserve(case.options)
  choice = choose(
    lambda density: density_budget.measure(found, density, tight, case.class_names),
    _MOST_DENSITY,
    density_budget.least_density(found),
    case.options,
  )
  made = [exported(case, choice.density, seed) for seed in range(seeds)]
  return {
    "model": case.model,
    "flash_kb": case.flash_kb,
    "ram_kb": case.ram_kb,
    "density": choice.density,
    "decoded": min(decoded for _, decoded in made),
    "planned_flash_bytes": choice.footprint.flash_bytes,
    "planned_ram_bytes": choice.footprint.ram_bytes,
    "least_flash_bytes": min(taken.flash_bytes for taken, _ in made),
    "most_flash_bytes": max(taken.flash_bytes for taken, _ in made),
    "most_ram_bytes": max(taken.ram_bytes for taken, _ in made),
  }


def markdown() -> str:
  """Returns the published rows as the documentation's table, lines ending in newline."""
  lines = [
    "| model | flash, kB | RAM, kB | density | tensors decoded | flash planned, bytes "
    "| flash of 8 models | RAM of them |",
    "|---|---|---|---|---|---|---|---|",
  ]
  for row in results_file.read("mcu_budgets").rows:
    flash, ram = (row[name] or "–" for name in ("flash_kb", "ram_kb"))
    lines.append(
      f"| {row['model']} | {flash} | {ram} | {row['density']:g} | {row['decoded']} "
      f"| {row['planned_flash_bytes']:,} | {row['least_flash_bytes']:,} to "
      f"{row['most_flash_bytes']:,} | {row['most_ram_bytes']:,} |"
    )
  return "".join(f"{line}\n" for line in lines)


def main() -> None:
  """Measures every case."""
  results_file.publish("mcu_budgets", [measure(case) for case in CASES])


if __name__ == "__main__":
  main()
