package org.example.model

/**
 * Reads JSON strictly: what arrives from elsewhere is taken as it must be, or not at all.
 *
 * Objects become maps, arrays lists, whole numbers Long, others Double.
 */
internal class Json private constructor(private val text: String) {
  private var place = 0

  companion object {
    private const val MOST_LEVELS = 16

    /** Parses a text that holds one value; throws [Refused] for any other. */
    fun parse(text: String): Any? {
      val reader = Json(text)
      val value = reader.value(0)
      reader.skip()
      reader.demand(reader.place == text.length)
      return value
    }
  }

  private fun demand(holds: Boolean) {
    if (!holds) throw Refused("no JSON at character $place; send it again as it was made")
  }

  private fun skip() {
    while (place < text.length && text[place] in " \t\r\n") place++
  }

  private fun take(): Char {
    demand(place < text.length)
    return text[place++]
  }

  private fun takes(symbol: Char): Boolean {
    skip()
    val found = place < text.length && text[place] == symbol
    if (found) place++
    return found
  }

  private fun value(level: Int): Any? {
    demand(level < MOST_LEVELS)
    skip()
    demand(place < text.length)
    return when (text[place]) {
      '{' -> pairs(level)
      '[' -> items(level)
      '"' -> string()
      't' -> word("true", true)
      'f' -> word("false", false)
      'n' -> word("null", null)
      else -> number()
    }
  }

  private fun word(spelt: String, value: Any?): Any? {
    demand(text.startsWith(spelt, place))
    place += spelt.length
    return value
  }

  private fun pairs(level: Int): Map<String, Any?> {
    val found = LinkedHashMap<String, Any?>()
    demand(takes('{'))
    if (takes('}')) return found
    do {
      skip()
      val name = string()
      demand(takes(':') && name !in found)
      found[name] = value(level + 1)
    } while (takes(','))
    demand(takes('}'))
    return found
  }

  private fun items(level: Int): List<Any?> {
    val found = ArrayList<Any?>()
    demand(takes('['))
    if (takes(']')) return found
    do {
      found.add(value(level + 1))
    } while (takes(','))
    demand(takes(']'))
    return found
  }

  private fun string(): String {
    demand(take() == '"')
    val built = StringBuilder()
    while (true) {
      val symbol = take()
      if (symbol == '"') return built.toString()
      demand(symbol >= ' ')
      built.append(if (symbol == '\\') escaped() else symbol)
    }
  }

  private fun escaped(): Char {
    val symbol = take()
    if (symbol == 'u') {
      demand(place + 4 <= text.length)
      val digits = text.substring(place, place + 4)
      demand(digits.all { it in "0123456789abcdefABCDEF" })
      place += 4
      return digits.toInt(16).toChar()
    }
    val known = "\"\\/bfnrt".indexOf(symbol)
    demand(known >= 0)
    return "\"\\/\b\u000c\n\r\t"[known]
  }

  private fun number(): Any {
    val start = place
    while (place < text.length && text[place] in "+-.0123456789eE") place++
    val digits = text.substring(start, place)
    demand(Regex("-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)?").matches(digits))
    val whole: Any? = digits.toLongOrNull()
    return whole ?: digits.toDouble()
  }
}

/** Writes a text as JSON. */
internal fun quoted(text: String): String {
  val built = StringBuilder("\"")
  for (symbol in text) {
    when {
      symbol == '"' || symbol == '\\' -> built.append('\\').append(symbol)
      symbol < ' ' || symbol > '~' -> built.append("\\u%04x".format(symbol - '\u0000'))
      else -> built.append(symbol)
    }
  }
  return built.append('"').toString()
}
