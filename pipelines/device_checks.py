"""Flags that make no sense in a run whose clients are devices."""

from typing import Any

from fedtiny_tff import poisoning, secure_config
from fedtiny_tff.errors import InputError

# Flag to the value it must have, why, and how to give it.
_NEEDED: dict[str, tuple[Any, str, str]] = {
  "dense_baseline": (
    False,
    "devices have a file of the sparse model alone",
    "set --nodense_baseline",
  ),
  "workers": ([], "workers compute for simulated clients", "leave it out"),
  "profile": (0, "what would be timed is simulated clients", "leave it out"),
  "client_dropout": (0.0, "devices need not be simulated", "leave it out"),
  "client_stragglers": (0.0, "devices need not be simulated", "leave it out"),
  "byzantine_attack": (poisoning.NONE, "it is simulated clients that attack", "leave it out"),
  "target_epsilon": (0.0, "devices' reports arrive one by one", "leave it out"),
  "noise_multiplier": (0.0, "devices' reports arrive one by one", "leave it out"),
  "secure_aggregation": (
    secure_config.NONE,
    "devices' reports arrive one by one",
    "leave it out",
  ),
  "calibration_source": (
    "public",
    "devices are not asked for ranges",
    "set --calibration_source=public",
  ),
}


def check(values: dict[str, Any]) -> None:
  """Refuses what devices are not asked for.

  Args:
    values: Every flag of a run, by name.

  Raises:
    InputError: Naming the flag and the mend.
  """
  if not 0.0 < values["device_timeout_seconds"] <= 1e7:
    raise InputError(
      "--device_timeout_seconds must be in (0, 1e7], got "
      f"{values['device_timeout_seconds']:g}"
    )
  if not values["device_exchange"]:
    return
  for name, (needed, reason, mend) in _NEEDED.items():
    if values[name] != needed:
      raise InputError(
        f"--device_exchange excludes --{name}, as {reason}; {mend}"
      )
  if values["targets"] and values["quantisation_aware"] in ("auto", "always"):
    raise InputError(
      f"--device_exchange excludes --quantisation_aware={values['quantisation_aware']}, "
      "which asks clients; set it to never or public"
    )
  if values["targets"] and not values["public_samples_per_class"]:
    raise InputError(
      "--device_exchange: integer files are calibrated on the server's samples; raise "
      "--public_samples_per_class, or export nothing (--targets=)"
    )
