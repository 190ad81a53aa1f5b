"""MLflow: one MLflow run a phase.

Where: `MLFLOW_TRACKING_URI`, else the folder `mlruns/` of the run directory. In which
experiment: `MLFLOW_EXPERIMENT_NAME`, else "fedtiny".
"""

import logging
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from pipelines.tracking import base, entries

# MLflow's own patience is minutes, which a round should not wait.
_PATIENCE = {
  "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
  "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
# It reports to its makers what is called, unless told not to.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
# What a server takes at a time: https://mlflow.org/docs/latest/rest-api.html#log-batch
_MOST_METRICS = 1000
_MOST_PARAMETERS = 100
_MOST_CHARACTERS = 6000


class MLflow:
  """Tells an MLflow server, or a folder, by its client; no global state is set."""

  def __init__(self) -> None:
    """Begins out of touch."""
    self._client: Any = None
    self._run_id = ""
    # Steps that the entry holds, by metric, before this process tells any.
    self._known: dict[str, set[int]] = {}
    self._settings: set[str] = set()

  def begin(self, subject: base.Subject) -> None:
    """Takes up the phase's MLflow run, or makes one."""
    for name, value in (_PATIENCE | _QUIET).items():
      os.environ.setdefault(name, value)
    import mlflow

    # Trackers that are out of reach are told of once, not at every attempt.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    where = os.environ.get("MLFLOW_TRACKING_URI") or str(
      (subject.folder / "mlruns").absolute().as_uri()
    )
    self._client = mlflow.MlflowClient(where)
    found = self._find(entries.read(subject, "mlflow"))
    if found is not None:
      self._run_id = found.info.run_id
      self._known = {name: self._steps(name) for name in found.data.metrics}
      self._settings = set(found.data.params)
      self._client.update_run(self._run_id, "RUNNING")
    else:
      self._run_id = self._create(subject)
      entries.keep(subject, "mlflow", self._run_id)
    self._describe(subject)

  def _find(self, run_id: Optional[str]) -> Any:
    from mlflow import exceptions

    if run_id is None:
      return None
    try:
      found = self._client.get_run(run_id)
    except exceptions.MlflowException as error:
      # Another server than before, perhaps.
      if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return None
      raise
    return found if found.info.lifecycle_stage == "active" else None

  def _create(self, subject: base.Subject) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "fedtiny"
    experiment = self._client.get_experiment_by_name(name)
    identity = (
      self._client.create_experiment(name)
      if experiment is None
      else experiment.experiment_id
    )
    run = self._client.create_run(
      identity, run_name=f"{subject.folder.absolute().name}{subject.suffix}"
    )
    return run.info.run_id

  def _steps(self, metric: str) -> set[int]:
    history = self._client.get_metric_history(self._run_id, metric)
    return {each.step for each in history}

  def _describe(self, subject: base.Subject) -> None:
    from mlflow import entities

    settings = [
      entities.Param(name, str(value)[:_MOST_CHARACTERS])
      for name, value in subject.configuration.items()
      if name not in self._settings
    ]
    for first in range(0, len(settings), _MOST_PARAMETERS):
      self._client.log_batch(
        self._run_id, params=settings[first : first + _MOST_PARAMETERS]
      )
    self._log(
      (f"candidate_{figure}", row[figure], row["candidate"])
      for row in subject.candidates
      for figure in ("loss", "accuracy")
      if row[figure] != ""
    )
    picture = subject.partition()
    if picture is not None:
      with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "label_by_client.png"
        path.write_bytes(picture)
        self._client.log_artifact(self._run_id, str(path))

  def tell(self, rounds: Sequence[base.Round]) -> None:
    """Adds what the entry does not hold yet."""
    self._log(
      (name, value, told.number)
      for told in rounds
      for name, value in {**told.scalars, **_adjusted(told)}.items()
    )

  def _log(self, metrics: Iterator[tuple[str, float, int]]) -> None:
    from mlflow import entities

    now = int(time.time() * 1000)
    fresh = [
      entities.Metric(name, float(value), now, step)
      for name, value, step in metrics
      if step not in self._known.get(name, ())
    ]
    for first in range(0, len(fresh), _MOST_METRICS):
      self._client.log_batch(self._run_id, metrics=fresh[first : first + _MOST_METRICS])

  def finish(self, is_done: bool) -> None:
    """Says how the phase ended."""
    if self._run_id:
      self._client.set_terminated(self._run_id, "FINISHED" if is_done else "KILLED")


def _adjusted(told: base.Round) -> dict[str, float]:
  """Returns what the mask's adjustment changed; MLflow knows no histograms."""
  figures: dict[str, float] = {f"mask_change/{k}": v for k, v in told.moved.items()}
  if told.number == 0 or told.change:
    figures |= {f"layer_density/{k}": v for k, v in told.densities.items()}
  return figures


def make() -> base.Tracker:
  """Returns a new tracker."""
  return MLflow()
