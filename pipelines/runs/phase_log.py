"""Opens the log of a phase: `metrics.csv` and the trackers that were asked for."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.apps.progress import Progress
from pipelines.apps.redaction import redacted
from pipelines.datasets import partition_picture
from pipelines.datasets.data_folder import RunData
from pipelines.runs.metrics_log import MetricsLog
from pipelines.settings import config as config_lib
from pipelines.tracking.base import Subject
from pipelines.tracking.trackers import Trackers


def open_log(
  phase: str,
  config: config_lib.RunConfig,
  folder: pathlib.Path,
  data: RunData,
  candidates: Sequence[Mapping[str, Any]],
  progress: Progress,
) -> MetricsLog:
  """Opens the log of a phase.

  Args:
    phase: "sparse" or "dense".
    config: The run's flags.
    folder: Its directory.
    data: Its data.
    candidates: Rows of `selection.csv`; empty where nothing was selected.
    progress: Where trackers' failures are said.
  """
  subject = Subject(
    folder,
    phase,
    told_configuration(config),
    candidates,
    functools.cache(lambda: partition_picture.draw(data)),
  )
  path = folder / f"metrics{subject.suffix}.csv"
  return MetricsLog(path, Trackers(config.trackers, subject, progress))


def told_configuration(config: config_lib.RunConfig) -> dict[str, Any]:
  """Returns the flags that decide the result, without what looks like a secret."""
  return {
    name: redacted(value) if isinstance(value, str) else value
    for name, value in config.configuration().items()
  }
