package org.example.model

/** Where the active weights are: nothing where all or none are, a bitmap, or Elias-Fano. */
internal object Positions {
  /** Decodes a mask into the bits that `set_weights` takes; throws [Refused]. */
  fun maskBits(encoded: ByteArray): ByteArray {
    val bits = ByteArray((ClientPlan.PRUNABLE + 7) / 8)
    if (ClientPlan.POSITION_BYTES == 0) {
      if (ClientPlan.ACTIVE > 0) for (i in 0 until ClientPlan.PRUNABLE) mark(bits, i)
      return bits
    }
    if (ClientPlan.POSITION_LOW_BITS == 0) {
      for (i in 0 until ClientPlan.PRUNABLE) if (isMarked(encoded, i)) mark(bits, i)
    } else {
      eliasFano(encoded, bits)
    }
    val found = (0 until ClientPlan.PRUNABLE).count { isMarked(bits, it) }
    if (found != ClientPlan.ACTIVE) {
      throw Refused(
        "positions: mark $found weights, the plan has ${ClientPlan.ACTIVE}; fetch them again"
      )
    }
    return bits
  }

  private fun eliasFano(encoded: ByteArray, bits: ByteArray) {
    val lowBits = ClientPlan.POSITION_LOW_BITS
    val lowerBytes = Math.toIntExact((ClientPlan.ACTIVE.toLong() * lowBits + 7) / 8)
    var number = 0
    for (place in 0 until 8 * (encoded.size - lowerBytes)) {
      if (number == ClientPlan.ACTIVE) return
      if (!isMarked(encoded, 8 * lowerBytes + place)) continue
      var lower = 0L
      for (bit in 0 until lowBits) {
        val isSet = isMarked(encoded, number * lowBits + bit)
        lower = 2 * lower + (if (isSet) 1 else 0)
      }
      val position = ((place - number).toLong() shl lowBits) + lower
      if (position >= ClientPlan.PRUNABLE) {
        throw Refused(
          "positions: one is $position, the model has ${ClientPlan.PRUNABLE} weights; " +
            "fetch them again"
        )
      }
      mark(bits, position.toInt())
      number++
    }
  }

  // The most significant bit of a byte comes first.
  private fun isMarked(bits: ByteArray, i: Int) = bits[i / 8].toInt() shr (7 - i % 8) and 1 == 1

  private fun mark(bits: ByteArray, i: Int) {
    bits[i / 8] = (bits[i / 8].toInt() or (0x80 shr i % 8)).toByte()
  }
}
