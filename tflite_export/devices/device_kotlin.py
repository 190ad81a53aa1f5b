"""The client of a federation in Kotlin, for an Android app.

Most of it is the same for every model and lies in `devices/kotlin`. What a model
decides is `ClientPlan.kt`, which is made here: the signatures of the file, as they are
read from it, and the numbers of the plan.
"""

import dataclasses
import importlib.resources
import string
from collections.abc import Mapping, Sequence
from typing import Any

from fedtiny_tff import seeds
from fedtiny_tff.devices.device_messages import TensorLayout
from fedtiny_tff.devices.device_plan import DevicePlan
from tflite_export.artifacts import VerificationError
from tflite_export.device_training.device_bundle import DeviceBundle
from tflite_export.file_format import flatbuffer_model
from tflite_export.texts import kotlin_text

PLAN_SOURCE = "ClientPlan.kt"

# By the schema's number, as NumPy names it.
_TYPES = {0: "float32", 2: "int32", 3: "uint8", 4: "int64", 10: "float64"}


@dataclasses.dataclass(frozen=True)
class Signature:
  """How a function of a file is called.

  Attributes:
    inputs: Layout by name.
    outputs: Layout by name.
  """

  inputs: Mapping[str, TensorLayout]
  outputs: Mapping[str, TensorLayout]


def read_signatures(content: bytes) -> dict[str, Signature]:
  """Reads how the functions of a file are called, by name.

  Raises:
    InputError: Damaged bytes.
    VerificationError: A tensor has a type that no message has.
  """
  model = flatbuffer_model.read_model(content)
  with flatbuffer_model.reading():
    return {
      each.signatureKey.decode(): Signature(
        *(
          {
            tensor.name.decode(): _layout(
              model.subgraphs[each.subgraphIndex].tensors[tensor.tensorIndex]
            )
            for tensor in sorted(tensors or [], key=lambda tensor: tensor.name)
          }
          for tensors in (each.inputs, each.outputs)
        )
      )
      for each in sorted(model.signatureDefs or [], key=lambda each: each.signatureKey)
    }


def _layout(tensor: Any) -> TensorLayout:
  if tensor.type not in _TYPES:
    raise VerificationError(f"the file has a tensor of type {tensor.type}")
  shape = tuple(flatbuffer_model.integers(tensor.shape))
  return TensorLayout(_TYPES[tensor.type], shape)


def sources(bundle: DeviceBundle) -> dict[str, str]:
  """Returns the client's sources, text by file name."""
  folder = importlib.resources.files("tflite_export.devices") / "kotlin"
  shared = {
    file.name: file.read_text(encoding="utf-8")
    for file in sorted(folder.iterdir(), key=lambda file: file.name)
    if file.name.endswith(".kt")
  }
  return {PLAN_SOURCE: _plan_source(bundle), **shared}


def _plan_source(bundle: DeviceBundle) -> str:
  """Writes the file that a model decides."""
  plan, signatures = bundle.plan, read_signatures(bundle.content)
  first, second = seeds.stateless(plan.seed).tolist()
  model = plan.model
  numbers = {
    "BATCH_SIZE": plan.batch_size,
    "LOCAL_EPOCHS": plan.local_epochs,
    "MAX_LOCAL_STEPS": plan.max_local_steps,
    "PRUNABLE": model.prunable,
    "ACTIVE": model.active,
    "DENSE": model.dense,
    "BATCH_NORM": model.batch_norm,
    "POSITION_BYTES": model.position_bytes,
    "POSITION_LOW_BITS": model.position_low_bits,
    "CLASSES": model.classes,
  }
  return _TEMPLATE.substitute(
    plan_sha256=plan.digest,
    model_sha256=model.sha256,
    numbers="\n".join(f"  const val {n} = {value}" for n, value in numbers.items()),
    shape=", ".join(map(str, model.input_shape)),
    first=first,
    second=second,
    blocks=_lines(
      _block(plan, number, signatures) for number in range(len(plan.blocks))
    ),
    signatures=_lines(
      f"{kotlin_text.quoted(name)} to Signature(\n"
      f"      inputs = {_layouts(signature.inputs)},\n"
      f"      outputs = {_layouts(signature.outputs)}\n"
      "    )"
      for name, signature in signatures.items()
    ),
  )


def _block(plan: DevicePlan, number: int, signatures: Mapping[str, Signature]) -> str:
  name = f"top_gradients_{number}"
  signature = kotlin_text.quoted(name) if name in signatures else "null"
  layers = ", ".join(map(kotlin_text.quoted, plan.blocks[number].layers))
  statistics = _layouts(plan.blocks[number].statistics)
  return f"Block(listOf({layers}), {signature}, {statistics})"


def _layouts(layouts: Mapping[str, TensorLayout]) -> str:
  entries = [
    f"{kotlin_text.quoted(name)} to Layout(NumberType.{layout.dtype.upper()}, "
    f"listOf({', '.join(map(str, layout.shape))}))"
    for name, layout in layouts.items()
  ]
  return f"mapOf({_indented(entries, 8)})" if entries else "mapOf()"


def _lines(items: Any) -> str:
  return ",\n".join(f"    {item}" for item in items)


def _indented(items: Sequence[str], spaces: int) -> str:
  return "".join(f"\n{' ' * spaces}{item}," for item in items).rstrip(",") + "\n      "


_TEMPLATE = string.Template("""\
package org.example.model

/** What this device's model file and plan are; generated with them, so do not edit it. */
internal object ClientPlan {
  /** Of client_plan.json; every message names it. */
  const val SHA256 = "$plan_sha256"
  /** Of model.tflite. */
  const val MODEL_SHA256 = "$model_sha256"
$numbers
  /** Shape of one example. */
  val INPUT_SHAPE = listOf($shape)
  /** With round and client, it decides the order of examples. */
  val ORDER_SEED = Philox.Seed($first, $second)

  /** How a function of the model file is called. */
  class Signature(val inputs: Map<String, Layout>, val outputs: Map<String, Layout>)

  /** Layers whose masks are adjusted together, how that is asked for, and what is sent. */
  class Block(
    val layers: List<String>, val signature: String?, val statistics: Map<String, Layout>
  )

  val BLOCKS: List<Block> = listOf(
$blocks
  )

  val SIGNATURES: Map<String, Signature> = mapOf(
$signatures
  )
}
""")
