package org.example.model

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A folder on this machine in place of a gateway. */
class FolderExchange(private val folder: File) : Exchange {
  override fun read(path: String, mostBytes: Long) =
    File(folder, path).takeIf { it.isFile }?.readBytes()

  override fun exists(path: String) = File(folder, path).isFile

  override fun write(path: String, content: ByteArray): Boolean {
    File(folder, path).apply { parentFile.mkdirs() }.writeBytes(content)
    return true
  }
}

/** Examples of a file: label, then input values, one example after another. */
class FileExamples(file: File, private val values: Int) : Examples {
  private val content = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
  override val count = content.capacity() / (4 * (values + 1))

  override fun put(row: Int, inputs: ByteBuffer): Int {
    val start = 4 * row * (values + 1)
    for (i in 1..values) inputs.putFloat(content.getFloat(start + 4 * i))
    return content.getInt(start)
  }
}

fun opened(place: String, token: String): Exchange =
  if (place.startsWith("http")) {
    HttpExchange(place, token, System.getProperty("seconds", "600").toLong())
  } else {
    FolderExchange(File(place))
  }

/** Takes one step for each task; or reads what must be messages, positions or JSON. */
fun main(arguments: Array<String>) {
  when (arguments[0]) {
    "positions" -> for (path in arguments.drop(1)) {
      println(told { Positions.maskBits(File(path).readBytes()).joinToString(" ") })
    }
    "messages" -> for (path in arguments.drop(2)) {
      val envelope = Envelope("round", arguments[1].toInt())
      println(told { Messages.read(File(path).readBytes(), envelope, Layouts.round(null)).keys.toString() })
    }
    "json" -> for (path in arguments.drop(1)) {
      println(told { Json.parse(File(path).readText()).toString() })
    }
    "steps" -> steps(File(arguments[1]), arguments[2], arguments.drop(3))
  }
}

private fun steps(data: File, place: String, tasks: List<String>) {
  val content = File(data, "model.tflite").readBytes()
  val model = ByteBuffer.allocateDirect(content.size).order(ByteOrder.nativeOrder())
  model.put(content)
  model.rewind()
  val values = ClientPlan.INPUT_SHAPE.fold(1) { product, size -> product * size }
  val (training, heldOut) =
    listOf("training", "held_out").map { FileExamples(File(data, it), values) }
  val client = System.getProperty("client").toInt()
  val runtime = DeviceRuntime(model, client, training, heldOut)
  try {
    val exchange = opened(place, System.getProperty("token", ""))
    val device = DeviceClient(exchange, runtime, client)
    for (task in tasks) {
      if (task != "-") File(task).copyTo(File(place, "task.json"), overwrite = true)
      println(told { device.step().toString() })
    }
  } finally {
    runtime.close()
  }
}

private fun told(what: () -> String): String =
  try {
    what()
  } catch (error: Refused) {
    "refused: ${error.message}"
  } catch (error: IOException) {
    "away: ${error.message}"
  }
