"""Java and Kotlin that make model inputs of raw examples, by what is declared.

Stored features are normalised; images of any size are resized before, with the filter of
`tf.image.resize(..., antialias=True)`, which Android's own resizing has not; signals are
left to `preprocessing.tflite`.
"""

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from typing import Optional

from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing

# Constant of the generated class: type, name, and one value or several.
Constant = tuple[str, str, "str | list[str]"]

_IMAGE_RANK = 4
_COLOURS = 3


@dataclasses.dataclass(frozen=True)
class Code:
  """What a class has of preprocessing.

  Attributes:
    constants: Its constants.
    java: Members in Java.
    kotlin: Members of the companion object in Kotlin.
    kotlin_nested: A class within the class in Kotlin.
  """

  constants: tuple[Constant, ...] = ()
  java: str = ""
  kotlin: str = ""
  kotlin_nested: str = ""


def code(
  preprocessing: Optional[Preprocessing], input_shape: Sequence[int], raw_values: str
) -> Code:
  """Returns what a class needs; nothing where preprocessing is not known.

  Args:
    preprocessing: What is declared.
    input_shape: Shape of the input, [1, ...].
    raw_values: What raw values are like, after "values".
  """
  if preprocessing is None:
    return Code()
  extraction = preprocessing.extraction
  if extraction.of_signal:
    document = extraction.to_json()
    constants: tuple[Constant, ...] = (
      ("int", "SAMPLES", str(document["samples"])),
      ("int", "SAMPLE_RATE_HZ", str(document["sample_rate_hz"])),
    )
    return Code(constants, _JAVA_SIGNAL, kotlin_nested=_KOTLIN_SIGNAL)
  constants = (
    ("float", "SCALE", f"{preprocessing.scale!r}f"),
    ("float", "MEAN", [f"{value!r}f" for value in preprocessing.mean]),
    ("float", "DEVIATION", [f"{value!r}f" for value in preprocessing.deviation]),
  )
  if isinstance(extraction, Resize):
    if extraction.grey:
      java = _JAVA_RESIZE.replace(*_JAVA_FROM_COLOURS) + _JAVA_GREY
      kotlin = _KOTLIN_RESIZE.replace(*_KOTLIN_FROM_COLOURS) + _KOTLIN_GREY
      java, kotlin = (
        text.replace("@param raw from", "@param colours red, green and blue from")
        for text in (java, kotlin)
      )
    else:
      java, kotlin = _JAVA_RESIZE, _KOTLIN_RESIZE
    java += _JAVA_NORMALISE.replace("public static", "private static")
    kotlin += _KOTLIN_NORMALISE.replace("fun ", "private fun ")
  else:
    java, kotlin = _JAVA_NORMALISE, _KOTLIN_NORMALISE
  if _is_of_colours(preprocessing, input_shape):
    java, kotlin = java + _JAVA_COLOURS, kotlin + _KOTLIN_COLOURS
  return Code(constants, _about_raw(java, raw_values), _about_raw(kotlin, raw_values))


def _is_of_colours(preprocessing: Preprocessing, input_shape: Sequence[int]) -> bool:
  """Whether raw examples are red, green and blue in bytes, as bitmaps hold them."""
  extraction = preprocessing.extraction
  is_coloured = len(input_shape) == _IMAGE_RANK and input_shape[-1] == _COLOURS
  if isinstance(extraction, Resize):
    return extraction.grey or is_coloured
  return is_coloured and math.isclose(preprocessing.scale, 1 / 255, rel_tol=1e-6)


def _about_raw(text: str, raw_values: str) -> str:
  """Says in a comment what raw values are like."""
  begin = "@param raw "
  lines = textwrap.wrap(f"values {raw_values}.", 72)
  return text.replace(f"{begin}RAW", begin + "\n     *     ".join(lines))


_JAVA_NORMALISE = """
  /**
   * Raw features, row-major with channels last, as the model wants them.
   *
   * @param raw RAW
   */
  public static float[] preprocess(float[] raw) {
    float[] values = new float[raw.length];
    for (int i = 0; i < raw.length; i++) {
      int channel = i % MEAN.length;
      values[i] = (raw[i] * SCALE - MEAN[channel]) / DEVIATION[channel];
    }
    return values;
  }
"""

_JAVA_RESIZE = """
  /**
   * An image of any size as the model wants it: resized as in training, and normalised.
   *
   * @param raw from 0 to 255, row-major with channels last.
   */
  public static float[] preprocess(float[] raw, int height, int width) {
    int channels = INPUT_SHAPE[3];
    if (raw.length != height * width * channels) {
      throw new IllegalArgumentException(
          "the image has " + raw.length + " values, wanted are height * width * "
              + channels + ": " + height * width * channels);
    }
    float[] rows = resample(raw, 1, height, INPUT_SHAPE[1], width * channels);
    float[] resized = resample(rows, INPUT_SHAPE[1], width, INPUT_SHAPE[2], channels);
    for (int i = 0; i < resized.length; i++) {
      resized[i] = (float) Math.rint(resized[i]);
    }
    return preprocess(resized);
  }

  /** Resizes the middle axis of [outer, size, inner] with a triangle for a filter. */
  private static float[] resample(float[] from, int outer, int size, int made, int inner) {
    float step = (float) (1.0 / ((float) made / size));
    float radius = Math.max(step, 1.0f);
    float[] to = new float[outer * made * inner];
    for (int place = 0; place < made; place++) {
      float center = (place + 0.5f) * step;
      int first = Math.max(0, (int) Math.ceil(center - radius - 0.5f));
      int last = Math.min(size - 1, (int) Math.floor(center + radius - 0.5f));
      float[] weights = new float[last - first + 1];
      float sum = 0.0f;
      for (int i = 0; i < weights.length; i++) {
        float distance = Math.abs(first + i + 0.5f - center) * (1.0f / radius);
        weights[i] = Math.max(0.0f, 1.0f - distance);
        sum += weights[i];
      }
      for (int i = 0; i < weights.length; i++) {
        float weight = weights[i] * (1.0f / sum);
        for (int row = 0; row < outer; row++) {
          int source = (row * size + first + i) * inner;
          int target = (row * made + place) * inner;
          for (int k = 0; k < inner; k++) {
            to[target + k] += weight * from[source + k];
          }
        }
      }
    }
    return to;
  }
"""

# Grey is made first, of colours: only then are there as many channels as the model has.
_JAVA_FROM_COLOURS = (
  """  public static float[] preprocess(float[] raw, int height, int width) {
    int channels = INPUT_SHAPE[3];
""",
  """  public static float[] preprocess(float[] colours, int height, int width) {
    if (colours.length != height * width * 3) {
      throw new IllegalArgumentException(
          "the image has " + colours.length + " values, wanted are height * width * 3: "
              + height * width * 3);
    }
    int channels = INPUT_SHAPE[3];
    float[] raw = grey(colours);
""",
)

_JAVA_GREY = """
  /** Makes grey of red, green and blue, in whole numbers. */
  private static float[] grey(float[] colours) {
    float[] made = new float[colours.length / 3];
    for (int i = 0; i < made.length; i++) {
      int red = (int) colours[3 * i];
      int green = (int) colours[3 * i + 1];
      int blue = (int) colours[3 * i + 2];
      made[i] = (299 * red + 587 * green + 114 * blue + 500) / 1000;
    }
    return made;
  }
"""

_JAVA_COLOURS = """
  /**
   * Red, green and blue of a bitmap, as preprocess takes them: from 0 to 255.
   *
   * @param pixels what Bitmap.getPixels gives; of a hardware bitmap, of its copy in
   *     ARGB_8888. Training dropped transparency, and turned no photo by its EXIF data.
   */
  public static float[] colours(int[] pixels) {
    float[] values = new float[3 * pixels.length];
    for (int i = 0; i < pixels.length; i++) {
      values[3 * i] = (pixels[i] >> 16) & 0xff;
      values[3 * i + 1] = (pixels[i] >> 8) & 0xff;
      values[3 * i + 2] = pixels[i] & 0xff;
    }
    return values;
  }
"""

_JAVA_SIGNAL = """
  /** Runs preprocessing.tflite, which makes model inputs of a signal. Not thread-safe. */
  public static final class Preprocessing implements AutoCloseable {
    private final Interpreter interpreter;

    /** Loads preprocessing.tflite, memory-mapped. */
    public Preprocessing(ByteBuffer file) {
      interpreter = new Interpreter(file, new Interpreter.Options().setNumThreads(1));
    }

    /** SAMPLES values in [-1, 1], SAMPLE_RATE_HZ a second, as the model wants them. */
    public float[] run(float[] raw) {
      if (raw.length != SAMPLES) {
        throw new IllegalArgumentException(
            "the signal has " + raw.length + " samples, wanted are " + SAMPLES);
      }
      int values = 1;
      for (int size : INPUT_SHAPE) {
        values *= size;
      }
      ByteBuffer fed = ByteBuffer.allocateDirect(4 * SAMPLES).order(ByteOrder.nativeOrder());
      fed.asFloatBuffer().put(raw);
      ByteBuffer given = ByteBuffer.allocateDirect(4 * values).order(ByteOrder.nativeOrder());
      interpreter.run(fed, given);
      given.rewind();
      float[] results = new float[values];
      given.asFloatBuffer().get(results);
      return results;
    }

    @Override
    public void close() {
      interpreter.close();
    }
  }
"""

_KOTLIN_NORMALISE = """
    /**
     * Raw features, row-major with channels last, as the model wants them.
     *
     * @param raw RAW
     */
    fun preprocess(raw: FloatArray): FloatArray = FloatArray(raw.size) { i ->
      val channel = i % MEAN.size
      (raw[i] * SCALE - MEAN[channel]) / DEVIATION[channel]
    }
"""

_KOTLIN_RESIZE = """
    /**
     * An image of any size as the model wants it: resized as in training, and normalised.
     *
     * @param raw from 0 to 255, row-major with channels last.
     */
    fun preprocess(raw: FloatArray, height: Int, width: Int): FloatArray {
      val channels = INPUT_SHAPE[3]
      require(raw.size == height * width * channels) {
        "the image has ${raw.size} values, wanted are height * width * $channels: " +
          "${height * width * channels}"
      }
      val rows = resample(raw, 1, height, INPUT_SHAPE[1], width * channels)
      val resized = resample(rows, INPUT_SHAPE[1], width, INPUT_SHAPE[2], channels)
      for (i in resized.indices) {
        resized[i] = Math.rint(resized[i].toDouble()).toFloat()
      }
      return preprocess(resized)
    }

    /** Resizes the middle axis of [outer, size, inner] with a triangle for a filter. */
    private fun resample(
      from: FloatArray, outer: Int, size: Int, made: Int, inner: Int
    ): FloatArray {
      val step = (1.0 / (made.toFloat() / size)).toFloat()
      val radius = Math.max(step, 1.0f)
      val to = FloatArray(outer * made * inner)
      for (place in 0 until made) {
        val center = (place + 0.5f) * step
        val first = Math.max(0, Math.ceil((center - radius - 0.5f).toDouble()).toInt())
        val last = Math.min(size - 1, Math.floor((center + radius - 0.5f).toDouble()).toInt())
        val weights = FloatArray(last - first + 1) { i ->
          val distance = Math.abs(first + i + 0.5f - center) * (1.0f / radius)
          Math.max(0.0f, 1.0f - distance)
        }
        var sum = 0.0f
        for (weight in weights) sum += weight
        for (i in weights.indices) {
          val weight = weights[i] * (1.0f / sum)
          for (row in 0 until outer) {
            val source = (row * size + first + i) * inner
            val target = (row * made + place) * inner
            for (k in 0 until inner) to[target + k] += weight * from[source + k]
          }
        }
      }
      return to
    }
"""

_KOTLIN_FROM_COLOURS = (
  """    fun preprocess(raw: FloatArray, height: Int, width: Int): FloatArray {
      val channels = INPUT_SHAPE[3]
""",
  """    fun preprocess(colours: FloatArray, height: Int, width: Int): FloatArray {
      require(colours.size == height * width * 3) {
        "the image has ${colours.size} values, wanted are height * width * 3: " +
          "${height * width * 3}"
      }
      val channels = INPUT_SHAPE[3]
      val raw = grey(colours)
""",
)

_KOTLIN_GREY = """
    /** Makes grey of red, green and blue, in whole numbers. */
    private fun grey(colours: FloatArray): FloatArray = FloatArray(colours.size / 3) { i ->
      val red = colours[3 * i].toInt()
      val green = colours[3 * i + 1].toInt()
      val blue = colours[3 * i + 2].toInt()
      ((299 * red + 587 * green + 114 * blue + 500) / 1000).toFloat()
    }
"""

_KOTLIN_COLOURS = """
    /**
     * Red, green and blue of a bitmap, as preprocess takes them: from 0 to 255.
     *
     * @param pixels what Bitmap.getPixels gives; of a hardware bitmap, of its copy in
     *     ARGB_8888. Training dropped transparency, and turned no photo by its EXIF data.
     */
    fun colours(pixels: IntArray): FloatArray = FloatArray(3 * pixels.size) { i ->
      (pixels[i / 3] shr (16 - 8 * (i % 3)) and 0xff).toFloat()
    }
"""

_KOTLIN_SIGNAL = """
  /** Runs preprocessing.tflite, which makes model inputs of a signal. Not thread-safe. */
  class Preprocessing(file: ByteBuffer) : AutoCloseable {
    private val interpreter = Interpreter(file, Interpreter.Options().setNumThreads(1))

    /** SAMPLES values in [-1, 1], SAMPLE_RATE_HZ a second, as the model wants them. */
    fun run(raw: FloatArray): FloatArray {
      require(raw.size == SAMPLES) {
        "the signal has ${raw.size} samples, wanted are $SAMPLES"
      }
      val fed = floats(SAMPLES)
      val given = floats(INPUT_SHAPE.fold(1) { values, size -> values * size })
      fed.asFloatBuffer().put(raw)
      interpreter.run(fed, given)
      given.rewind()
      return FloatArray(given.capacity() / 4) { given.getFloat() }
    }

    override fun close() {
      interpreter.close()
    }

    private fun floats(count: Int): ByteBuffer =
      ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder())
  }
"""
