package org.example.model

import java.nio.ByteBuffer
import java.util.concurrent.CancellationException
import org.tensorflow.lite.Interpreter

/** A device's own examples, preprocessed as `preprocessing.json` says. */
interface Examples {
  val count: Int

  /** Puts the input values of an example into the buffer, and returns its label, from 0. */
  fun put(row: Int, inputs: ByteBuffer): Int
}

/**
 * Answers the server's messages: decodes them, computes in LiteRT, and encodes.
 *
 * The same message has the same answer, so that one that was lost is made again. Not
 * thread-safe; training takes seconds to minutes, so call it off the main thread.
 *
 * @param model the model file, mapped or in a direct buffer
 * @param client number of this device in the federation
 * @param training what it trains on, at least one example
 * @param heldOut what it scores candidates and rounds on; it is never trained on
 */
class DeviceRuntime(
  model: ByteBuffer,
  private val client: Int,
  private val training: Examples,
  private val heldOut: Examples,
  threads: Int = 1
) : AutoCloseable {
  // XNNPACK, LiteRT's default on CPUs, runs the file.
  private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))

  /** Says how many examples this device has. */
  fun hello(): ByteArray = Messages.write(
    Envelope("hello", 0, client),
    mapOf(
      "training_examples" to Numbers.longs(training.count.toLong()),
      "held_out_examples" to Numbers.longs(heldOut.count.toLong())
    )
  )

  /**
   * Answers a message of a task; throws [Refused] if it is another than it must be.
   *
   * @param goesOn asked before every batch; if it says no, [CancellationException] is thrown
   */
  fun answer(
    work: Work, message: ByteArray, number: Int, block: Int?, goesOn: () -> Boolean
  ): ByteArray {
    val layouts =
      if (work == Work.TRAIN) Layouts.round(block) else Layouts.model()
    val received = Messages.read(message, Envelope(work.sent, number), layouts)
    setWeights(received)
    val found = when (work) {
      Work.TRAIN -> train(received, number, block, goesOn)
      Work.MEASURE -> measure(goesOn)
      Work.SCORE, Work.EVALUATE -> evaluate(goesOn)
    }
    return Messages.write(Envelope(work.answer, number, client, Messages.sha256(message)), found)
  }

  private fun train(
    received: Map<String, Numbers>, round: Int, block: Int?, goesOn: () -> Boolean
  ): Map<String, Numbers> {
    if (training.count == 0) {
      throw Refused("client $client has no example to train on; leave it out")
    }
    val sums = FloatArray(METRICS.size)
    val found = LinkedHashMap<String, Numbers>()
    val adjusted = block?.let { ClientPlan.BLOCKS[it] }
    // Of a block that has nothing to move the file has no signature, and empty tensors are sent.
    for ((name, layout) in adjusted?.statistics.orEmpty()) found["statistics.$name"] = Numbers(layout)
    val batches = trainingBatches(round)
    for ((number, rows) in batches.withIndex()) {
      check(goesOn)
      val batch = batch(training, rows, ClientPlan.BATCH_SIZE)
      val signature = adjusted?.signature
      if (number == batches.size - 1 && signature != null) {
        val statistics = call(signature, batch + ("counts" to received.getValue("counts")))
        for ((name, values) in statistics) found["statistics.$name"] = values
      }
      val rate = "learning_rate" to received.getValue("learning_rate")
      add(sums, call(Signatures.TRAIN, batch + rate))
    }
    // What the model has none of does not come back.
    val trained = received + call(Signatures.GET_WEIGHTS, mapOf("unused" to NOTHING))
    val before = received.getValue("batch_norm_mean").floats()
    val mean = trained.getValue("batch_norm_mean").floats()
    val variance = trained.getValue("batch_norm_variance").floats()
    val offset = FloatArray(mean.size) { mean[it] - before[it] }
    found["active_values"] = trained.getValue("active_values")
    found["dense"] = trained.getValue("dense")
    found["mean_offset"] = Numbers.floats(*offset)
    found["second_moment"] =
      Numbers.floats(*FloatArray(mean.size) { variance[it] + offset[it] * offset[it] })
    found["weight"] = Numbers.floats(training.count.toFloat())
    return found + named(sums)
  }

  private fun measure(goesOn: () -> Boolean): Map<String, Numbers> {
    val sums = MOMENTS.associateWith { DoubleArray(ClientPlan.BATCH_NORM) }
    // A file without batch norm has no such signature.
    val measured = if (ClientPlan.BATCH_NORM > 0) heldOut.count else 0
    // A last example that is alone joins the batch before it, as it has no spread.
    for (rows in inOrder(measured, joins = true)) {
      check(goesOn)
      val moments = call(Signatures.BN_STATISTICS, batch(heldOut, rows, ClientPlan.BATCH_SIZE + 1))
      for ((name, total) in sums) {
        moments.getValue(name).floats().forEachIndexed { i, value -> total[i] += value.toDouble() }
      }
    }
    return sums.mapValues { Numbers.doubles(it.value) }
  }

  private fun evaluate(goesOn: () -> Boolean): Map<String, Numbers> {
    val sums = FloatArray(METRICS.size)
    for (rows in inOrder(heldOut.count, joins = false)) {
      check(goesOn)
      add(sums, call(Signatures.EVALUATE, batch(heldOut, rows, ClientPlan.BATCH_SIZE)))
    }
    return named(sums)
  }

  /** Returns the rows of every batch of a round, in the simulation's order. */
  private fun trainingBatches(round: Int): List<IntArray> {
    val ofRound = Philox.foldIn(ClientPlan.ORDER_SEED, round)
    val seed = Philox.foldIn(Philox.foldIn(ofRound, client), 0)
    val size = ClientPlan.BATCH_SIZE
    val batches = ArrayList<IntArray>()
    for (epoch in 0 until ClientPlan.LOCAL_EPOCHS) {
      val order = Philox.permutation(training.count, Philox.foldIn(seed, epoch))
      for (start in order.indices step size) {
        if (ClientPlan.MAX_LOCAL_STEPS in 1..batches.size) return batches
        batches.add(order.copyOfRange(start, minOf(start + size, order.size)))
      }
    }
    return batches
  }

  private fun inOrder(count: Int, joins: Boolean): List<IntArray> {
    val batches = ArrayList<IntArray>()
    var start = 0
    while (start < count) {
      var stop = minOf(start + ClientPlan.BATCH_SIZE, count)
      if (joins && count - stop == 1) stop = count
      batches.add(IntArray(stop - start) { start + it })
      start = stop
    }
    return batches
  }

  /** Gathers examples, filled up with rows that do not count. */
  private fun batch(examples: Examples, rows: IntArray, size: Int): Map<String, Numbers> {
    val inputs = Numbers(Layout(NumberType.FLOAT32, listOf(size) + ClientPlan.INPUT_SHAPE))
    val labels = Numbers(Layout(NumberType.INT32, listOf(size)))
    val stride = inputs.layout.bytes / size
    for (i in 0 until size) {
      inputs.buffer.position(i * stride)
      val label = if (i < rows.size) label(examples.put(rows[i], inputs.buffer)) else FILLED_UP
      labels.buffer.putInt(4 * i, label)
    }
    return mapOf("x" to inputs, "y" to labels)
  }

  /** Passes a label on; one that the model has no output for would count as no loss at all. */
  private fun label(label: Int): Int {
    if (label < 0 || (ClientPlan.CLASSES in 1..label)) {
      throw Refused(
        "an example's label is $label, the model has ${ClientPlan.CLASSES} classes, from 0 on; " +
          "mend Examples.put"
      )
    }
    return label
  }

  private fun setWeights(received: Map<String, Numbers>) {
    val bits = Positions.maskBits(received.getValue("positions").bytes())
    val mask = Numbers.of(Layout(NumberType.UINT8, listOf(bits.size)), bits)
    call(Signatures.SET_WEIGHTS, received + ("mask" to mask))
  }

  /** Runs a signature on what it takes of the given tensors. */
  private fun call(name: String, given: Map<String, Numbers>): Map<String, Numbers> {
    val signature = ClientPlan.SIGNATURES.getValue(name)
    val inputs = signature.inputs.mapValues { (input, layout) ->
      val numbers = given.getValue(input)
      require(numbers.layout == layout) { "$name: $input is ${numbers.layout}, not $layout" }
      numbers.buffer.rewind()
      numbers.buffer
    }
    val outputs = signature.outputs.mapValues { Numbers(it.value) }
    interpreter.runSignature(
      HashMap<String, Any>(inputs), HashMap<String, Any>(outputs.mapValues { it.value.buffer }), name
    )
    return outputs
  }

  private fun add(sums: FloatArray, found: Map<String, Numbers>) {
    METRICS.forEachIndexed { i, name -> sums[i] += found.getValue(name).floats()[0] }
  }

  private fun named(sums: FloatArray): Map<String, Numbers> =
    METRICS.withIndex().associate { (i, name) -> name to Numbers.floats(sums[i]) }

  private fun check(goesOn: () -> Boolean) {
    if (!goesOn()) throw CancellationException("stopped between two batches")
  }

  override fun close() = interpreter.close()

  private companion object {
    const val FILLED_UP = -1
    // Android's interpreter runs no signature without an input.
    val NOTHING = Numbers(Layout(NumberType.FLOAT32, listOf(1)))
    val METRICS = listOf("loss_sum", "correct", "examples")
    val MOMENTS = listOf("count", "first", "second")
  }
}

/** Functions of the model file; `top_gradients` has one for each block. */
internal object Signatures {
  const val SET_WEIGHTS = "set_weights"
  const val GET_WEIGHTS = "get_weights"
  const val TRAIN = "train"
  const val EVALUATE = "evaluate"
  // Of models with batch norm.
  const val BN_STATISTICS = "bn_statistics"
}

/** What messages of the server hold. */
internal object Layouts {
  fun model(): Map<String, Layout> = mapOf(
    "active_values" to floats(ClientPlan.ACTIVE),
    "positions" to Layout(NumberType.UINT8, listOf(ClientPlan.POSITION_BYTES)),
    "dense" to floats(ClientPlan.DENSE),
    "batch_norm_mean" to floats(ClientPlan.BATCH_NORM),
    "batch_norm_variance" to floats(ClientPlan.BATCH_NORM)
  )

  fun round(block: Int?): Map<String, Layout> {
    val layers = if (block == null) 0 else ClientPlan.BLOCKS[block].layers.size
    return model() + mapOf(
      "learning_rate" to floats(1), "counts" to Layout(NumberType.INT32, listOf(layers))
    )
  }

  private fun floats(count: Int) = Layout(NumberType.FLOAT32, listOf(count))
}
