"""Java and Kotlin that say what a model's outputs are, and make percentages of them."""

import textwrap

from tflite_export.conversion import output_meaning

_WIDTH = 88


def comment(text: str, indent: str) -> str:
  """Returns text as a documentation comment of both languages, and a line break."""
  lines = textwrap.wrap(text, _WIDTH - len(indent) - 3)
  inside = "".join(f"{indent} * {line}\n" for line in lines)
  return f"{indent}/**\n{inside}{indent} */\n"


def of_run(outputs: str, indent: str) -> str:
  """Returns the comment of the method that runs a file.

  Args:
    outputs: As `output_meaning.meaning` tells.
    indent: In front of each line.
  """
  text = (
    f"Preprocessed inputs, flat, to outputs, flat: {output_meaning.in_words(outputs)}."
  )
  if outputs == output_meaning.LOGITS:
    text += " See probabilities."
  return comment(text, indent)


def java(outputs: str) -> str:
  """Returns what is made of outputs; nothing where they are no logits."""
  return _JAVA if outputs == output_meaning.LOGITS else ""


def kotlin(outputs: str) -> str:
  """Returns the same for the companion object."""
  return _KOTLIN if outputs == output_meaning.LOGITS else ""


_JAVA = """
  /** Softmax: makes probabilities of what run gives, one per class; times 100, percentages. */
  public static float[] probabilities(float[] logits) {
    float largest = Float.NEGATIVE_INFINITY;
    for (float logit : logits) {
      largest = Math.max(largest, logit);
    }
    float[] shares = new float[logits.length];
    float sum = 0.0f;
    for (int i = 0; i < shares.length; i++) {
      shares[i] = (float) Math.exp(logits[i] - largest);
      sum += shares[i];
    }
    for (int i = 0; i < shares.length; i++) {
      shares[i] /= sum;
    }
    return shares;
  }
"""

_KOTLIN = """
    /** Softmax: makes probabilities of what run gives, one per class; times 100, percentages. */
    fun probabilities(logits: FloatArray): FloatArray {
      var largest = Float.NEGATIVE_INFINITY
      for (logit in logits) largest = Math.max(largest, logit)
      val shares = FloatArray(logits.size) { i ->
        Math.exp((logits[i] - largest).toDouble()).toFloat()
      }
      var sum = 0.0f
      for (share in shares) sum += share
      return FloatArray(shares.size) { i -> shares[i] / sum }
    }
"""
