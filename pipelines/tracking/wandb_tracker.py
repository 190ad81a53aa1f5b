"""Weights & Biases: one W&B run a phase, in one group.

`WANDB_PROJECT` (else "fedtiny"), `WANDB_MODE` and the others are W&B's own. Sent are the
flags, figures and pictures; not the command line, the code, the console or what the
machine is like.
"""

import io
import os
import uuid
from collections.abc import Sequence
from typing import Any, Optional

from pipelines.tracking import base, entries

_WITHOUT_SERVER = ("offline", "disabled", "dryrun")


def _has_server() -> bool:
  return os.environ.get("WANDB_MODE") not in _WITHOUT_SERVER


def problem() -> Optional[str]:
  """Returns what keeps runs from being sent, which must not be asked in mid-run."""
  if not _has_server():
    return None
  import wandb

  if wandb.api.api_key:
    return None
  return (
    "no API key is known; set WANDB_API_KEY, run `wandb login`, or set "
    "WANDB_MODE=offline"
  )


class WeightsAndBiases:
  """Tells W&B, or with `WANDB_MODE=offline` a folder for `wandb sync`."""

  def __init__(self) -> None:
    """Begins out of touch."""
    self._run: Any = None

  def begin(self, subject: base.Subject) -> None:
    """Takes up the phase's entry, or makes one."""
    import wandb

    identity = entries.read(subject, "wandb")
    if identity is None:
      identity = uuid.uuid4().hex[:12]
      entries.keep(subject, "wandb", identity)
    name = subject.folder.absolute().name
    self._run = wandb.init(
      project=os.environ.get("WANDB_PROJECT") or "fedtiny",
      dir=str(subject.folder),
      id=identity,
      name=f"{name}{subject.suffix}",
      group=name,
      job_type=subject.phase,
      # An offline run is written anew, with all rounds; the last one is to be synced.
      resume="allow" if _has_server() else None,
      reinit="finish_previous",
      config=dict(subject.configuration),
      settings=wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        init_timeout=30,
      ),
    )
    picture = subject.partition()
    if self._run.step == 0:
      self._describe(subject.candidates, picture)

  def _describe(self, candidates: Sequence[Any], picture: Optional[bytes]) -> None:
    """Tells, for step 0, what does not depend on rounds."""
    import PIL.Image
    import wandb

    told: dict[str, Any] = {}
    if candidates:
      columns = list(candidates[0])
      told["candidates"] = wandb.Table(
        columns, data=[list(base.without_blanks(row).values()) for row in candidates]
      )
    if picture is not None:
      told["label_by_client"] = wandb.Image(PIL.Image.open(io.BytesIO(picture)))
    if told:
      self._run.log(told, step=0, commit=False)

  def tell(self, rounds: Sequence[base.Round]) -> None:
    """Adds the steps that the entry does not hold yet."""
    import wandb

    for told in rounds:
      # Of a continued run: what its server knows already.
      if told.number < self._run.step:
        continue
      figures: dict[str, Any] = {
        **told.scalars,
        **{f"mask_change/{name}": count for name, count in told.moved.items()},
      }
      if told.number == 0 or told.change:
        figures["layer_densities"] = wandb.Histogram(list(told.densities.values()))
      self._run.log(figures, step=told.number, commit=True)

  def finish(self, is_done: bool) -> None:
    """Ends W&B's own process, which has written everything then."""
    if self._run is None:
      return
    import wandb

    exit_code = 0 if is_done else 1
    self._run.finish(exit_code=exit_code)
    wandb.teardown(exit_code)


def make() -> base.Tracker:
  """Returns a new tracker."""
  return WeightsAndBiases()
