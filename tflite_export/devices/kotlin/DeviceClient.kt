package org.example.model

/** What a server asks for, and the kinds of its messages and of the answers. */
enum class Work(val asked: String, val sent: String, val answer: String) {
  MEASURE("measure", "candidate", "moments"),
  SCORE("score", "scoring", "score"),
  TRAIN("train", "round", "update"),
  EVALUATE("evaluate", "evaluation", "figures")
}

/** Where messages lie: a server's folder, behind HTTP or anything else. */
interface Exchange {
  /** Returns a file's content, null where there is none; throws [java.io.IOException]. */
  fun read(path: String, mostBytes: Long): ByteArray?

  fun exists(path: String): Boolean

  /** Writes a file, whole or not at all; false if nobody asks for it any more. */
  fun write(path: String, content: ByteArray): Boolean
}

/** What became of one look at the server's task. */
enum class Step {
  /** Nothing is asked of this device now. */
  WAITING,
  /** Everything that was asked for is answered. */
  ANSWERED,
  /** The federation has ended. */
  FINISHED
}

/**
 * One device's part in a federation: looks what is asked for, and answers it.
 *
 * Call [step] again and again, some seconds apart while it is WAITING. It keeps nothing:
 * ended at any moment and begun anew, it does what has no answer yet.
 */
class DeviceClient(
  private val exchange: Exchange, private val runtime: DeviceRuntime, private val client: Int
) {
  /**
   * Looks once, and answers what is asked of this device.
   *
   * Throws [Refused] for what is not the server's, [java.io.IOException] if it cannot be
   * reached, and [java.util.concurrent.CancellationException] when [goesOn] says no.
   */
  fun step(goesOn: () -> Boolean = { true }): Step {
    val content = exchange.read("task.json", LARGEST_TASK_BYTES) ?: return Step.WAITING
    val task = Task.read(String(content, Charsets.UTF_8))
    if (task.work == FINISHED) return Step.FINISHED
    if (client !in task.clients) return Step.WAITING
    if (task.work == HELLO) {
      if (isMissing(HELLO, 0)) exchange.write(path(HELLO, 0), runtime.hello())
      return Step.ANSWERED
    }
    val work = Work.values().first { it.asked == task.work }
    for ((number, sha256) in task.messages) {
      if (!isMissing(work.answer, number)) continue
      val layouts = if (work == Work.TRAIN) Layouts.round(task.block) else Layouts.model()
      val sent = "server/%s-%06d.safetensors".format(java.util.Locale.ROOT, work.sent, number)
      // Taken away, if the task has changed since.
      val message = exchange.read(sent, Messages.largestBytes(layouts)) ?: return Step.WAITING
      if (Messages.sha256(message) != sha256) {
        throw Refused("$sent: is not the message that the task names; fetch it again")
      }
      val answer = runtime.answer(work, message, number, task.block, goesOn)
      if (!exchange.write(path(work.answer, number), answer)) return Step.WAITING
    }
    return Step.ANSWERED
  }

  private fun isMissing(kind: String, number: Int) = !exchange.exists(path(kind, number))

  private fun path(kind: String, number: Int) =
    "devices/%06d/%s-%06d.safetensors".format(java.util.Locale.ROOT, client, kind, number)

  internal companion object {
    const val LARGEST_TASK_BYTES = 16L shl 20
    const val HELLO = "hello"
    const val FINISHED = "finished"
  }
}

/** What `task.json` asks for; messages are numbers and digests. */
internal class Task(
  val work: String,
  val clients: Set<Int>,
  val messages: List<Pair<Int, String>>,
  val block: Int?
) {
  companion object {
    private const val VERSION = 1L

    /** Reads a task; throws [Refused] for one of another plan, or for anything else. */
    fun read(text: String): Task {
      try {
        val document = Json.parse(text) as Map<*, *>
        if (document["version"] != VERSION) {
          throw Refused("task.json: is of version ${document["version"]}; update the app")
        }
        if (document["plan"] != ClientPlan.SHA256) {
          throw Refused("task.json: is of another plan; update the app to that plan's model")
        }
        val work = document["work"] as String
        val others = listOf(DeviceClient.HELLO, DeviceClient.FINISHED)
        require(work in others || Work.values().any { it.asked == work })
        val messages = (document["messages"] as List<*>).map {
          val message = it as Map<*, *>
          Pair(count(message["number"]), message["sha256"] as String)
        }
        val block = document["block"]?.let(::count)
        require(block == null || block < ClientPlan.BLOCKS.size)
        return Task(work, (document["clients"] as List<*>).map(::count).toSet(), messages, block)
      } catch (error: RuntimeException) {
        throw Refused("task.json: is no task (${error.javaClass.simpleName}); fetch it again")
      }
    }

    private fun count(value: Any?): Int =
      Math.toIntExact(value as Long).also { require(it >= 0) }
  }
}
