"""The flag of commands that can say what they would do without doing it."""

from absl import flags

DRY_RUN = flags.DEFINE_boolean(
  "dry_run",
  False,
  "Only say what would be done and about how long it would take; nothing is trained and "
  "nothing written.",
)
