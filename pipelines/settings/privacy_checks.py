"""Flags of privacy that contradict each other, or the guarantee."""

from typing import Any

from fedtiny_tff.errors import InputError
from fedtiny_tff.protection import privacy, secure_config


def check(values: dict[str, Any]) -> None:
  """Refuses flags that contradict each other, or the guarantee.

  Args:
    values: Every flag of a run, by name.

  Raises:
    InputError: Naming the flag and the mend.
  """
  privacy.check(
    values["target_epsilon"], values["noise_multiplier"], values["target_delta"]
  )
  if not 0.0 < values["clip_norm"] <= 1e6:
    raise InputError(f"--clip_norm must be in (0, 1e6], got {values['clip_norm']:g}")
  private = values["target_epsilon"] or values["noise_multiplier"]
  secure = values["secure_aggregation"] != secure_config.NONE
  if not private and not secure:
    return
  what = "--target_epsilon" if private else "--secure_aggregation"
  if values["quantisation_aware"] != "never":
    raise InputError(
      f"{what} does not cover the clients' part in integer files: set "
      "--quantisation_aware=never"
    )
  if values["calibration_source"] == "clients":
    raise InputError(
      f"{what} does not cover ranges that clients give: set --calibration_source=public"
    )
  if private and values["dense_baseline"]:
    raise InputError(
      "--target_epsilon covers one run, and --dense_baseline is a second one on the "
      "same clients: set --nodense_baseline"
    )
  if private and values["min_reports"] > 1:
    raise InputError(
      "--min_reports repeats rounds, which --target_epsilon does not count: set it to 1"
    )
  if private and values["early_stopping"]:
    raise InputError(
      "--early_stopping looks at held-out losses that --target_epsilon does not cover: "
      "leave it out"
    )
