package org.example.model

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.TreeMap

/** What cannot be taken, and in one line what to do about it. */
class Refused(message: String) : Exception(message)

/** Types of numbers in messages: names in a file and of NumPy, and bytes of a number. */
internal enum class NumberType(val stored: String, val size: Int, val title: String) {
  FLOAT32("F32", 4, "float32"),
  FLOAT64("F64", 8, "float64"),
  INT32("I32", 4, "int32"),
  INT64("I64", 8, "int64"),
  UINT8("U8", 1, "uint8")
}

/** What a tensor of a message must be. */
internal data class Layout(val type: NumberType, val shape: List<Int>) {
  val elements: Int = shape.fold(1) { product, size -> Math.multiplyExact(product, size) }
  val bytes: Int = Math.multiplyExact(elements, type.size)

  override fun toString() = type.title + shape.joinToString(", ", "[", "]")
}

/** Numbers, row by row, in little-endian order; a buffer that LiteRT takes and fills. */
internal class Numbers(val layout: Layout) {
  val buffer: ByteBuffer =
    ByteBuffer.allocateDirect(layout.bytes).order(ByteOrder.LITTLE_ENDIAN)

  fun bytes(): ByteArray = ByteArray(layout.bytes).also {
    buffer.rewind()
    buffer.get(it)
    buffer.rewind()
  }

  fun floats() = FloatArray(layout.elements) { buffer.getFloat(4 * it) }

  companion object {
    fun of(layout: Layout, bytes: ByteArray): Numbers {
      require(bytes.size == layout.bytes) { "$layout has ${bytes.size} bytes" }
      return Numbers(layout).apply {
        buffer.put(bytes)
        buffer.rewind()
      }
    }

    fun floats(vararg values: Float) = Numbers(Layout(NumberType.FLOAT32, listOf(values.size)))
      .apply { values.forEachIndexed { i, value -> buffer.putFloat(4 * i, value) } }

    fun doubles(values: DoubleArray) = Numbers(Layout(NumberType.FLOAT64, listOf(values.size)))
      .apply { values.forEachIndexed { i, value -> buffer.putDouble(8 * i, value) } }

    fun longs(vararg values: Long) = Numbers(Layout(NumberType.INT64, listOf(values.size)))
      .apply { values.forEachIndexed { i, value -> buffer.putLong(8 * i, value) } }
  }
}

/** Which message it is; [answers] is the digest of the message that it answers. */
internal data class Envelope(
  val kind: String, val number: Int, val client: Int? = null, val answers: String = ""
) {
  /** What a message says of itself, by name. */
  fun told(): TreeMap<String, String> {
    val told = TreeMap<String, String>()
    told["version"] = Messages.VERSION
    told["kind"] = kind
    told["plan"] = ClientPlan.SHA256
    told["round"] = number.toString()
    if (client != null) told["client"] = client.toString()
    if (answers.isNotEmpty()) told["answers"] = answers
    return told
  }

  override fun toString() =
    kind + " message" + (if (client == null) "" else " of client $client") + " for round $number"
}

/**
 * Messages: safetensors files with an envelope and a checksum.
 *
 * Format: https://github.com/huggingface/safetensors#format
 */
internal object Messages {
  const val VERSION = "1"
  private const val HEADER_BYTES = 100_000L
  private const val TENSOR_HEADER_BYTES = 500L
  private const val MEND = "fetch it again"

  fun sha256(content: ByteArray): String = hex(MessageDigest.getInstance("SHA-256").digest(content))

  /** Returns how long a message of such tensors can be. */
  fun largestBytes(layouts: Map<String, Layout>): Long =
    layouts.values.map { it.bytes.toLong() }.sum() + HEADER_BYTES +
      TENSOR_HEADER_BYTES * layouts.size

  /** Makes a message. */
  fun write(envelope: Envelope, tensors: Map<String, Numbers>): ByteArray {
    val told = envelope.told()
    told["checksum"] = checksum(told, tensors)
    val envelopeText = told.entries.joinToString(", ", "{", "}") {
      quoted(it.key) + ": " + quoted(it.value)
    }
    // The largest numbers first, so that all of them lie at multiples of their size.
    val placed = tensors.entries.sortedWith(
      compareBy({ -it.value.layout.type.size }, { it.key })
    )
    val parts = arrayListOf("\"__metadata__\":{\"envelope\":" + quoted(envelopeText) + "}")
    var offset = 0L
    for ((name, numbers) in placed) {
      val layout = numbers.layout
      val end = offset + layout.bytes
      val shape = layout.shape.joinToString(",", "[", "]")
      parts.add(
        quoted(name) + ":{\"dtype\":\"" + layout.type.stored + "\",\"shape\":" + shape +
          ",\"data_offsets\":[" + offset + "," + end + "]}"
      )
      offset = end
    }
    val header = parts.joinToString(",", "{", "}")
    val padded = header.padEnd((header.length + 7) / 8 * 8).toByteArray(Charsets.UTF_8)
    val made = ByteBuffer.allocate(Math.toIntExact(8 + padded.size + offset))
    made.order(ByteOrder.LITTLE_ENDIAN).putLong(padded.size.toLong()).put(padded)
    for ((_, numbers) in placed) made.put(numbers.bytes())
    return made.array()
  }

  /** Reads a message if it is the one it must be; throws [Refused] for any other. */
  fun read(
    content: ByteArray, envelope: Envelope, layouts: Map<String, Layout>
  ): Map<String, Numbers> {
    if (content.size > largestBytes(layouts)) {
      throw Refused("$envelope: has ${content.size} bytes, which is too long; $MEND")
    }
    val told: Map<String, String>
    val tensors: Map<String, Numbers>
    try {
      val header = header(content)
      told = envelopeOf(header)
      tensors = tensorsOf(content, header)
    } catch (error: Refused) {
      throw Refused("$envelope: is no whole message (${error.message})")
    } catch (error: RuntimeException) {
      throw Refused("$envelope: is no whole message (${error.javaClass.simpleName}); $MEND")
    }
    val wanted = envelope.told()
    for (name in wanted.keys + told.keys - "checksum") {
      if (told[name] != wanted[name]) {
        throw Refused(
          "$envelope: its $name is ${told[name]}, expected is ${wanted[name]}; $MEND"
        )
      }
    }
    val found = tensors.mapValues { it.value.layout }
    if (found != layouts) throw Refused("$envelope: holds $found, expected is $layouts; $MEND")
    if (told["checksum"] != checksum(wanted, tensors)) {
      throw Refused("$envelope: its checksum is wrong, so it was altered; $MEND")
    }
    return tensors
  }

  private fun header(content: ByteArray): Map<*, *> {
    val length = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).getLong()
    require(length >= 0 && length <= content.size - 8)
    return Json.parse(String(content, 8, length.toInt(), Charsets.UTF_8)) as Map<*, *>
  }

  private fun envelopeOf(header: Map<*, *>): Map<String, String> {
    val text = (header["__metadata__"] as Map<*, *>)["envelope"] as String
    val told = Json.parse(text) as Map<*, *>
    return told.entries.associate { (it.key as String) to (it.value as String) }
  }

  /** Takes tensors that fill the file without gaps; throws what is thrown otherwise. */
  private fun tensorsOf(content: ByteArray, header: Map<*, *>): Map<String, Numbers> {
    val length = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).getLong().toInt()
    val data = 8 + length
    val found = TreeMap<String, Numbers>()
    var covered = 0L
    val entries = header.entries.filter { it.key != "__metadata__" }
    // An empty tensor lies before the one that begins where it does.
    val placed = entries.sortedWith(
      compareBy({ offsets(it.value).first }, { offsets(it.value).second })
    )
    for ((name, described) in placed) {
      val (start, end) = offsets(described)
      val stored = (described as Map<*, *>)["dtype"]
      val type = NumberType.values().first { it.stored == stored }
      val shape = (described["shape"] as List<*>).map { Math.toIntExact(it as Long) }
      require(shape.all { it >= 0 })
      val layout = Layout(type, shape)
      require(start == covered && end - start == layout.bytes.toLong())
      require(data + end <= content.size)
      val from = data + start.toInt()
      found[name as String] = Numbers.of(layout, content.copyOfRange(from, from + layout.bytes))
      covered = end
    }
    require(data + covered == content.size.toLong())
    return found
  }

  private fun offsets(described: Any?): Pair<Long, Long> {
    val (start, end) = (described as Map<*, *>)["data_offsets"] as List<*>
    return Pair(start as Long, end as Long)
  }

  private fun checksum(told: Map<String, String>, tensors: Map<String, Numbers>): String {
    val digest = MessageDigest.getInstance("SHA-256")
    for ((name, text) in told.toSortedMap()) {
      digest.update("${name.length}:$name=${text.length}:$text;".toByteArray(Charsets.UTF_8))
    }
    for ((name, numbers) in tensors.toSortedMap()) {
      digest.update("${name.length}:$name=${numbers.layout};".toByteArray(Charsets.UTF_8))
      digest.update(numbers.bytes())
    }
    return hex(digest.digest())
  }

  private fun hex(bytes: ByteArray) = bytes.joinToString("") { "%02x".format(it) }
}
