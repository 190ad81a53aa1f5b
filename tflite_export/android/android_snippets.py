"""Kotlin and Java that run a model on Android, with its own names, shapes and classes.

One class serves every file of the folder: what a file's input and output look like is
asked of the interpreter. API: `org.tensorflow.lite.Interpreter`,
https://ai.google.dev/edge/api/tflite/java/org/tensorflow/lite/Interpreter
"""

import dataclasses
import json
import re
import string
from collections.abc import Sequence
from typing import Optional

from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from tflite_export.android import android_outputs, android_preprocessing
from tflite_export.conversion import output_meaning
from tflite_export.file_format import flatbuffer_model
from tflite_export.texts import kotlin_text

_PACKAGE = "org.example.model"
# A class of Java may hold constants of 64 kB in all.
_MOST_LABEL_CHARACTERS = 30_000


@dataclasses.dataclass(frozen=True)
class Interface:
  """How a file is called.

  Attributes:
    signature: Name of the signature.
    input_name: Its input.
    output_name: Its output.
    input_shape: Shape of the input, [1, ...].
    output_shape: Shape of the output, [1, ...].
  """

  signature: str
  input_name: str
  output_name: str
  input_shape: tuple[int, ...]
  output_shape: tuple[int, ...]


def read_interface(model_bytes: bytes) -> Interface:
  """Reads how a file is called.

  Raises:
    InputError: Damaged bytes, or not one signature of one input and one output.
  """
  model = flatbuffer_model.read_model(model_bytes)
  with flatbuffer_model.reading():
    signatures = model.signatureDefs or []
    if len(signatures) != 1:
      raise InputError(f"the file has {len(signatures)} signatures; export it with one")
    signature = signatures[0]
    inputs, outputs = signature.inputs or [], signature.outputs or []
    if len(inputs) != 1 or len(outputs) != 1:
      raise InputError(
        f"the file's signature has {len(inputs)} inputs and {len(outputs)} outputs; "
        "build the model with one each"
      )
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    return Interface(
      signature=signature.signatureKey.decode(),
      input_name=inputs[0].name.decode(),
      output_name=outputs[0].name.decode(),
      input_shape=_shape(tensors[inputs[0].tensorIndex]),
      output_shape=_shape(tensors[outputs[0].tensorIndex]),
    )


def _shape(tensor: object) -> tuple[int, ...]:
  return tuple(flatbuffer_model.integers(getattr(tensor, "shape", None)))


def class_name(model_name: str) -> str:
  """Returns what the class is called: `digits_cnn` gives `DigitsCnnModel`."""
  parts = re.findall(r"[A-Za-z0-9]+", model_name)
  joined = "".join(part[:1].upper() + part[1:] for part in parts)
  return f"{'M' if joined[:1].isdigit() else ''}{joined}Model"


def snippets(
  model_name: str,
  interface: Interface,
  preprocessing: Optional[Preprocessing],
  labels: Optional[Sequence[str]],
  outputs: str = output_meaning.OTHER,
  raw_values: str = "as in the training data",
) -> dict[str, str]:
  """Writes the class in both languages.

  Args:
    model_name: The model's name; names the class.
    interface: How the files are called.
    preprocessing: From raw examples to inputs; None leaves it out.
    labels: One per output; None where there are no classes. Very many are left to
      labels.txt.
    outputs: As `output_meaning.meaning` tells.
    raw_values: What raw values are like, after "values".

  Returns:
    File name to text.
  """
  if labels is not None and sum(map(len, labels)) > _MOST_LABEL_CHARACTERS:
    labels = None
  name = class_name(model_name)
  code = android_preprocessing.code(preprocessing, interface.input_shape, raw_values)
  return {
    f"{name}.kt": _fill(_KOTLIN, _Kotlin(), name, interface, code, labels, outputs),
    f"{name}.java": _fill(_JAVA, _Java(), name, interface, code, labels, outputs),
  }


class _Java:
  """What the two languages write differently."""

  def constant(self, type: str, name: str, value: str) -> str:
    return f"  public static final {type} {name} = {value};\n"

  def text(self, text: str) -> str:
    return json.dumps(text)

  def array(self, type: str, items: Sequence[str]) -> tuple[str, str]:
    return f"{type}[]", "{" + ", ".join(items) + "}"

  def members(self, code: android_preprocessing.Code, outputs: str) -> str:
    return code.java + android_outputs.java(outputs)


class _Kotlin:
  """What the two languages write differently."""

  def constant(self, type: str, name: str, value: str) -> str:
    const = "" if type.endswith("[]") else "const "
    return f"    {const}val {name} = {value}\n"

  def text(self, text: str) -> str:
    return kotlin_text.quoted(text)

  def array(self, type: str, items: Sequence[str]) -> tuple[str, str]:
    make = "arrayOf" if type == "String" else f"{type}ArrayOf"
    return f"{type}[]", f"{make}({', '.join(items)})"

  def members(self, code: android_preprocessing.Code, outputs: str) -> str:
    return code.kotlin + android_outputs.kotlin(outputs)


def _fill(
  template: string.Template,
  language: "_Java | _Kotlin",
  name: str,
  interface: Interface,
  code: android_preprocessing.Code,
  labels: Optional[Sequence[str]],
  outputs: str,
) -> str:
  """Writes one class."""
  constants = [
    language.constant("String", constant, language.text(value))
    for constant, value in (
      ("SIGNATURE", interface.signature),
      ("INPUT_NAME", interface.input_name),
      ("OUTPUT_NAME", interface.output_name),
    )
  ]

  def add_array(type: str, constant: str, items: Sequence[str]) -> None:
    of_type, value = language.array(type, items)
    constants.append(language.constant(of_type, constant, value))

  add_array("int", "INPUT_SHAPE", [str(size) for size in interface.input_shape])
  add_array("int", "OUTPUT_SHAPE", [str(size) for size in interface.output_shape])
  if labels is not None:
    add_array("String", "LABELS", [language.text(label) for label in labels])
  for of_type, constant, value in code.constants:
    if isinstance(value, str):
      constants.append(language.constant(of_type, constant, value))
    else:
      add_array(of_type, constant, value)
  return template.substitute(
    package=_PACKAGE,
    name=name,
    constants="".join(constants),
    members=language.members(code, outputs),
    run=android_outputs.of_run(outputs, "  "),
    nested=code.kotlin_nested,
  )


_JAVA = string.Template("""\
package $package;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Collections;
import java.util.Map;
import org.tensorflow.lite.DataType;
import org.tensorflow.lite.Interpreter;
import org.tensorflow.lite.Tensor;

/** Runs any of the model's .tflite files in this folder. Not thread-safe. */
public final class $name implements AutoCloseable {
$constants
  private final Interpreter interpreter;

  /** Loads a memory-mapped file; XNNPACK, LiteRT's default on CPUs, runs it. */
  public $name(ByteBuffer file, int threads) {
    interpreter =
        new Interpreter(file, new Interpreter.Options().setNumThreads(threads));
  }
$members
${run}  public float[] run(float[] values) {
    Tensor input = interpreter.getInputTensorFromSignature(INPUT_NAME, SIGNATURE);
    Tensor output = interpreter.getOutputTensorFromSignature(OUTPUT_NAME, SIGNATURE);
    if (values.length != input.numElements()) {
      throw new IllegalArgumentException(
          "the model takes " + input.numElements() + " values, got " + values.length);
    }
    ByteBuffer fed = ByteBuffer.allocateDirect(input.numBytes()).order(ByteOrder.nativeOrder());
    boolean quantisedInput = input.dataType() == DataType.INT8;
    float scale = input.quantizationParams().getScale();
    int zeroPoint = input.quantizationParams().getZeroPoint();
    for (float value : values) {
      if (quantisedInput) {
        // Halves away from zero, as TFLite rounds; as a double, which no value overflows.
        double steps = value / scale;
        double stored = Math.copySign(Math.floor(Math.abs(steps) + 0.5), steps) + zeroPoint;
        fed.put((byte) Math.max(-128, Math.min(127, stored)));
      } else {
        fed.putFloat(value);
      }
    }
    fed.rewind();
    ByteBuffer given = ByteBuffer.allocateDirect(output.numBytes()).order(ByteOrder.nativeOrder());
    Map<String, Object> inputs = Collections.<String, Object>singletonMap(INPUT_NAME, fed);
    Map<String, Object> outputs = Collections.<String, Object>singletonMap(OUTPUT_NAME, given);
    interpreter.runSignature(inputs, outputs, SIGNATURE);
    given.rewind();
    boolean quantisedOutput = output.dataType() == DataType.INT8;
    float outputScale = output.quantizationParams().getScale();
    int outputZeroPoint = output.quantizationParams().getZeroPoint();
    float[] results = new float[output.numElements()];
    for (int i = 0; i < results.length; i++) {
      results[i] =
          quantisedOutput ? (given.get() - outputZeroPoint) * outputScale : given.getFloat();
    }
    return results;
  }

  @Override
  public void close() {
    interpreter.close();
  }
}
""")

_KOTLIN = string.Template("""\
package $package

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

/** Runs any of the model's .tflite files in this folder. Not thread-safe. */
class $name(file: ByteBuffer, threads: Int) : AutoCloseable {

  companion object {
$constants$members
    private fun buffer(tensor: Tensor): ByteBuffer =
      ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())
  }
$nested
  // XNNPACK, LiteRT's default on CPUs, runs the file.
  private val interpreter = Interpreter(file, Interpreter.Options().setNumThreads(threads))

${run}  fun run(values: FloatArray): FloatArray {
    val input = interpreter.getInputTensorFromSignature(INPUT_NAME, SIGNATURE)
    val output = interpreter.getOutputTensorFromSignature(OUTPUT_NAME, SIGNATURE)
    require(values.size == input.numElements()) {
      "the model takes $${input.numElements()} values, got $${values.size}"
    }
    val fed = buffer(input)
    val given = buffer(output)
    for (value in values) {
      if (input.dataType() == DataType.INT8) {
        // Halves away from zero, as TFLite rounds; as a double, which no value overflows.
        val steps = (value / input.quantizationParams().getScale()).toDouble()
        val rounded = Math.copySign(Math.floor(Math.abs(steps) + 0.5), steps)
        val stored = rounded + input.quantizationParams().getZeroPoint()
        fed.put(Math.max(-128.0, Math.min(127.0, stored)).toInt().toByte())
      } else {
        fed.putFloat(value)
      }
    }
    fed.rewind()
    interpreter.runSignature(
      mapOf<String, Any>(INPUT_NAME to fed), mapOf<String, Any>(OUTPUT_NAME to given), SIGNATURE
    )
    given.rewind()
    return FloatArray(output.numElements()) {
      if (output.dataType() == DataType.INT8) {
        val stored = given.get().toInt() - output.quantizationParams().getZeroPoint()
        stored * output.quantizationParams().getScale()
      } else {
        given.getFloat()
      }
    }
  }

  override fun close() {
    interpreter.close()
  }
}
""")
