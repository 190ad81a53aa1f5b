"""Flags of differential privacy and secure aggregation."""

from absl import flags

# Group to the names of its flags; a part of `run_flags.GROUPS`.
GROUPS: dict[str, list[str]] = {
  "Privacy": [
    "target_epsilon", "noise_multiplier", "target_delta", "clip_norm",
    "adaptive_clipping", "secure_aggregation", "secure_bits", "secure_votes",
    "secure_vote_buckets",
  ],
}  # fmt: skip


def define() -> None:
  """Defines all of them."""
  flags.DEFINE_float(
    "target_epsilon",
    0.0,
    "Differential privacy of whole clients: the ε that the run keeps to; 0 = none, "
    "unless --noise_multiplier says how much noise there is.",
  )
  flags.DEFINE_float(
    "noise_multiplier",
    0.0,
    "Noise of a round over the longest update, instead of --target_epsilon; 0 = none.",
  )
  flags.DEFINE_float(
    "target_delta", 0.0, "Chance at which ε may fail; 0 = clients^-1.1."
  )
  flags.DEFINE_float("clip_norm", 1.0, "Longest update that counts, at first.")
  flags.DEFINE_boolean(
    "adaptive_clipping", True, "Whether that follows the median of the updates."
  )
  flags.DEFINE_string(
    "secure_aggregation",
    "none",
    "How reports are added up without being seen, as TFF simulates it: none, bitwidth "
    "(sums of integers of a given width) or modular (sums that wrap around).",
  )
  flags.DEFINE_integer(
    "secure_bits", 32, "Bits of a value and of its sum over clients."
  )
  flags.DEFINE_string(
    "secure_votes",
    "dense",
    "What votes travel as, since positions are the client's own: dense (a score for "
    "every weight of the block) or hashed (a sketch of them).",
  )
  flags.DEFINE_integer(
    "secure_vote_buckets", 1024, "Buckets of each of the three rows of a sketch."
  )
