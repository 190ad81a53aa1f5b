"""Flags of runs whose clients are devices."""

from absl import flags

# Group to the names of its flags; a part of `run_flags.GROUPS`.
GROUPS: dict[str, list[str]] = {
  "Devices": ["device_exchange", "device_timeout_seconds", "device_most_examples"],
}


def define() -> None:
  """Defines all of them."""
  flags.DEFINE_string(
    "device_exchange",
    "",
    "Folder through which --num_clients devices are asked for what clients compute, "
    "instead of simulating them; each runs `python -m pipelines.device_client`. "
    "docs/devices.md.",
  )
  flags.DEFINE_float(
    "device_timeout_seconds",
    600.0,
    "How long devices have to answer; then a round closes with the reports it has.",
  )
  flags.DEFINE_integer(
    "device_most_examples",
    100_000,
    "A device that says to have more examples is refused: a mean weighs by them.",
  )
