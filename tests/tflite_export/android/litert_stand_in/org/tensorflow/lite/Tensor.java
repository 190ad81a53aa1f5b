package org.tensorflow.lite;

/** As the real one, an interface over what a file says of a tensor. */
public final class Tensor {
  public static final class QuantizationParams {
    private final float scale;
    private final int zeroPoint;

    QuantizationParams(float scale, int zeroPoint) {
      this.scale = scale;
      this.zeroPoint = zeroPoint;
    }

    public float getScale() {
      return scale;
    }

    public int getZeroPoint() {
      return zeroPoint;
    }
  }

  private final int elements;
  private final DataType type;
  private final QuantizationParams params;

  Tensor(int elements, DataType type, float scale, int zeroPoint) {
    this.elements = elements;
    this.type = type;
    this.params = new QuantizationParams(scale, zeroPoint);
  }

  public DataType dataType() {
    return type;
  }

  public int numElements() {
    return elements;
  }

  public int numBytes() {
    return type == DataType.INT8 ? elements : 4 * elements;
  }

  public QuantizationParams quantizationParams() {
    return params;
  }
}
