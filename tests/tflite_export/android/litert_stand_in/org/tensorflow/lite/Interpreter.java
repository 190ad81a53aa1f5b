package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.util.Map;

/** A model that gives each input value twice as large; int8 if the file's byte 0 is 1. */
public final class Interpreter implements AutoCloseable {
  public static final class Options {
    public Options setNumThreads(int threads) {
      return this;
    }
  }

  private static final int ELEMENTS = 4;
  private static final float SCALE = 0.5f;
  private final Tensor input;
  private final Tensor output;

  public Interpreter(ByteBuffer file, Options options) {
    DataType type = file.get(0) == 1 ? DataType.INT8 : DataType.FLOAT32;
    input = new Tensor(ELEMENTS, type, SCALE, -3);
    output = new Tensor(ELEMENTS, type, 2 * SCALE, -10);
  }

  public Tensor getInputTensorFromSignature(String name, String signature) {
    return check(input, name, "inputs", signature);
  }

  public Tensor getOutputTensorFromSignature(String name, String signature) {
    return check(output, name, "logits", signature);
  }

  public void runSignature(
      Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
    check(input, inputs.keySet().iterator().next(), "inputs", signature);
    ByteBuffer from = (ByteBuffer) inputs.get("inputs");
    ByteBuffer to = (ByteBuffer) outputs.get("logits");
    for (int i = 0; i < ELEMENTS; i++) {
      if (input.dataType() == DataType.INT8) {
        // Twice the value at twice the scale is the same distance from the zero point.
        to.put((byte) Math.max(-128, from.get() + 3 - 10));
      } else {
        to.putFloat(2 * from.getFloat());
      }
    }
  }

  public void run(Object input, Object output) {
    ByteBuffer from = (ByteBuffer) input;
    ByteBuffer to = (ByteBuffer) output;
    while (from.hasRemaining()) {
      to.putFloat(2 * from.getFloat());
    }
  }

  private static Tensor check(Tensor tensor, String name, String wanted, String signature) {
    if (!name.equals(wanted) || !signature.equals("serving_default")) {
      throw new IllegalArgumentException("no " + name + " in signature " + signature);
    }
    return tensor;
  }

  @Override
  public void close() {}
}
