package org.tensorflow.lite;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** LiteRT on this machine: a Python process computes, which gets and gives bytes. */
public final class Interpreter implements AutoCloseable {
  public static final class Options {
    public Options setNumThreads(int threads) {
      return this;
    }
  }

  private final Process process;
  private final DataOutputStream to;
  private final DataInputStream from;

  public Interpreter(ByteBuffer file, Options options) {
    try {
      process =
          new ProcessBuilder(System.getProperty("python"), System.getProperty("bridge"))
              .redirectError(ProcessBuilder.Redirect.INHERIT)
              .start();
      to = new DataOutputStream(process.getOutputStream());
      from = new DataInputStream(process.getInputStream());
      writeBytes(taken(file));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /** As the real one, which takes no signature without inputs. */
  public void runSignature(
      Map<String, Object> inputs, Map<String, Object> outputs, String signature) {
    if (inputs.isEmpty()) {
      throw new IllegalArgumentException("Input error: Inputs should not be null or empty.");
    }
    try {
      writeBytes(signature.getBytes(StandardCharsets.UTF_8));
      to.writeInt(inputs.size());
      for (Map.Entry<String, Object> input : inputs.entrySet()) {
        writeBytes(input.getKey().getBytes(StandardCharsets.UTF_8));
        writeBytes(taken((ByteBuffer) input.getValue()));
      }
      to.flush();
      for (int left = from.readInt(); left > 0; left--) {
        String name = new String(readBytes(), StandardCharsets.UTF_8);
        byte[] content = readBytes();
        ByteBuffer output = checked((ByteBuffer) outputs.get(name));
        if (output.remaining() != content.length) {
          throw new IllegalArgumentException(name + " has " + content.length + " bytes");
        }
        output.put(content);
      }
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static ByteBuffer checked(ByteBuffer buffer) {
    if (!buffer.isDirect() || buffer.order() != ByteOrder.nativeOrder()) {
      throw new IllegalArgumentException("buffers must be direct, in the machine's order");
    }
    return buffer;
  }

  private static byte[] taken(ByteBuffer buffer) {
    byte[] content = new byte[checked(buffer).remaining()];
    buffer.duplicate().get(content);
    return content;
  }

  private void writeBytes(byte[] content) throws IOException {
    to.writeInt(content.length);
    to.write(content);
  }

  private byte[] readBytes() throws IOException {
    byte[] content = new byte[from.readInt()];
    from.readFully(content);
    return content;
  }

  @Override
  public void close() {
    process.destroy();
  }
}
