package org.example.model

/**
 * The order in which the simulation goes through examples: Philox 4x32-10, as TensorFlow's
 * stateless random numbers draw it.
 *
 * Source: J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
 */
internal object Philox {
  private const val WORD = 0xFFFFFFFFL
  private const val FIRST_MULTIPLIER = 0xD2511F53L
  private const val SECOND_MULTIPLIER = 0xCD9E8D57L
  private const val FIRST_KEY_STEP = 0x9E3779B9L
  private const val SECOND_KEY_STEP = 0xBB67AE85L
  private const val ROUNDS = 10

  /** Two whole numbers of 32 bits. */
  data class Seed(val first: Int, val second: Int)

  private fun block(counter: LongArray, first: Long, second: Long): LongArray {
    var (a, b, c, d) = counter
    var firstKey = first
    var secondKey = second
    repeat(ROUNDS) {
      // Products of 64 bits are right although Long is signed: only their bits are taken.
      val left = FIRST_MULTIPLIER * a
      val right = SECOND_MULTIPLIER * c
      a = right.ushr(32) xor b xor firstKey
      b = right and WORD
      c = left.ushr(32) xor d xor secondKey
      d = left and WORD
      firstKey = (firstKey + FIRST_KEY_STEP) and WORD
      secondKey = (secondKey + SECOND_KEY_STEP) and WORD
    }
    return longArrayOf(a, b, c, d)
  }

  /** Draws words of 32 bits, one after the other. */
  private class Words(seed: Seed) {
    private val key: LongArray
    private val upper: LongArray
    private var number = 0L
    private var drawn = LongArray(0)
    private var next = 0

    init {
      val halves = longArrayOf(seed.first.toLong(), seed.second.toLong())
      val counter = LongArray(4) { halves[it / 2].ushr(32 * (it % 2)) and WORD }
      // TensorFlow scrambles seeds with these.
      val mixed = block(counter, 0x3EC8F720L, 0x02461E29L)
      key = mixed.copyOfRange(0, 2)
      upper = mixed.copyOfRange(2, 4)
    }

    fun draw(): Long {
      if (next == drawn.size) {
        val counter = longArrayOf(number and WORD, number.ushr(32), upper[0], upper[1])
        drawn = block(counter, key[0], key[1])
        number++
        next = 0
      }
      return drawn[next++]
    }
  }

  /** Makes a seed of a seed and a number. */
  fun foldIn(seed: Seed, number: Int) = Seed(Words(seed).draw().toInt(), number)

  /** Draws an order of so many examples. */
  fun permutation(count: Int, seed: Seed): IntArray {
    val order = IntArray(count) { it }
    val words = Words(seed)
    for (i in 0 until count - 1) {
      val other = i + (words.draw() % (count - i)).toInt()
      order[i] = order[other].also { order[other] = order[i] }
    }
    return order
  }
}
