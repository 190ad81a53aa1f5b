"""The flag of apps that print figures or findings."""

from absl import flags

FORMAT = flags.DEFINE_enum(
  "format", "text", ["text", "json"], "How to print the result."
)
