package org.example.model

import java.io.ByteArrayOutputStream
import java.io.IOException
import java.net.HttpURLConnection
import java.net.URL
import java.util.concurrent.TimeUnit

/**
 * Messages behind a gateway (`python -m pipelines.device_gateway`).
 *
 * @param address such as `https://federation.example`; Android refuses plain HTTP unless
 *   the app's network security configuration allows it, and it should not
 * @param token this client's secret at the gateway; empty if it wants none
 * @param longestSeconds how long a file may take to arrive
 */
class HttpExchange(
  private val address: String,
  private val token: String = "",
  private val longestSeconds: Long = 600
) : Exchange {

  override fun read(path: String, mostBytes: Long): ByteArray? = asked("GET", path) {
    if (it.responseCode == HttpURLConnection.HTTP_NOT_FOUND) return@asked null
    demand(it, path)
    limited(it, path, mostBytes)
  }

  override fun exists(path: String): Boolean = asked("HEAD", path) {
    if (it.responseCode == HttpURLConnection.HTTP_NOT_FOUND) return@asked false
    demand(it, path)
    true
  }

  override fun write(path: String, content: ByteArray): Boolean = asked("PUT", path) {
    it.doOutput = true
    it.setFixedLengthStreamingMode(content.size)
    it.outputStream.use { stream -> stream.write(content) }
    // The gateway's word for what nobody asks for at present.
    if (it.responseCode == HttpURLConnection.HTTP_CONFLICT) return@asked false
    demand(it, path)
    true
  }

  private fun <Result> asked(
    method: String, path: String, use: (HttpURLConnection) -> Result
  ): Result {
    val connection =
      URL(address.trimEnd('/') + "/" + path).openConnection() as HttpURLConnection
    try {
      connection.requestMethod = method
      connection.connectTimeout = PATIENCE_MILLISECONDS
      connection.readTimeout = PATIENCE_MILLISECONDS
      // A secret must not follow to wherever a server points.
      connection.instanceFollowRedirects = false
      connection.useCaches = false
      if (token.isNotEmpty()) connection.setRequestProperty("Authorization", "Bearer $token")
      return use(connection)
    } finally {
      connection.disconnect()
    }
  }

  private fun demand(connection: HttpURLConnection, path: String) {
    val code = connection.responseCode
    when {
      code in 200..204 -> return
      code == HttpURLConnection.HTTP_UNAUTHORIZED || code == HttpURLConnection.HTTP_FORBIDDEN ->
        throw Refused("$path: the gateway does not admit this client ($code); give its secret")
      else -> throw IOException("$path: the gateway answers $code")
    }
  }

  private fun limited(connection: HttpURLConnection, path: String, mostBytes: Long): ByteArray {
    val kept = ByteArrayOutputStream()
    val wanted = connection.getHeaderField("Content-Length")?.toLongOrNull()
    val begun = System.nanoTime()
    connection.inputStream.use { stream ->
      val part = ByteArray(PART_BYTES)
      while (true) {
        val count = stream.read(part)
        if (count < 0) break
        kept.write(part, 0, count)
        // Each part has its own patience, and may be a byte.
        if (System.nanoTime() - begun > TimeUnit.SECONDS.toNanos(longestSeconds)) {
          throw IOException("$path: took more than $longestSeconds s")
        }
        if (kept.size() > mostBytes) {
          throw Refused("$path: has more than $mostBytes bytes, as none of its kind has")
        }
      }
    }
    if (wanted != null && wanted != kept.size().toLong()) {
      throw IOException("$path: broke off after ${kept.size()} bytes")
    }
    return kept.toByteArray()
  }

  private companion object {
    const val PATIENCE_MILLISECONDS = 30_000
    const val PART_BYTES = 1 shl 16
  }
}
