package kotlinx.coroutines

object Dispatchers {
  val Default = Any()
}

class CoroutineScope

val CoroutineScope.isActive: Boolean get() = true

suspend fun delay(milliseconds: Long) {}

suspend fun <Given> withContext(context: Any, block: suspend CoroutineScope.() -> Given): Given =
  CoroutineScope().block()
