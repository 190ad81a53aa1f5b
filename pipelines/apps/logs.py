"""How messages are written to stderr: as text, or as JSON objects, a line each.

An object has `time` (UTC), `level` (debug, info, warning, error), `stage` (what the run
is doing, or null) and `message`; some have more, such as a round's figures.
"""

import dataclasses
import datetime
import json
import logging
import sys
import traceback
from typing import Any, Optional

from absl import flags
from absl import logging as absl_logging

from pipelines.apps.redaction import printable, redacted

FORMATS = ("text", "json")
_FORMAT = flags.DEFINE_enum(
  "log_format",
  "text",
  list(FORMATS),
  "How progress and errors are written to stderr: text, or json (an object a line).",
)
_LEVELS = {
  "debug": absl_logging.DEBUG,
  "info": absl_logging.INFO,
  "warning": absl_logging.WARNING,
  "error": absl_logging.ERROR,
}
FLAGS = ("log_format", "verbosity")


class _LevelParser(flags.ArgumentParser):
  """Reads a level by its name, or by absl's number for it."""

  def parse(self, argument: Any) -> int:
    """Returns absl's number."""
    try:
      level = _LEVELS[argument] if argument in _LEVELS else int(argument)
    except ValueError:
      level = None
    if level not in _LEVELS.values():
      raise ValueError(f"must be {', '.join(_LEVELS)}")
    return level


class _LevelSerializer(flags.ArgumentSerializer):
  """Names a level."""

  def serialize(self, value: int) -> str:
    """Returns its name."""
    return next(name for name, level in _LEVELS.items() if level == value)


def _adopt_verbosity() -> None:
  """Makes absl's own flag one with names, that shows progress by default."""
  flag = flags.FLAGS["verbosity"]
  flag.help = "Least that is written there: debug, info, warning or error."
  flag.parser, flag.serializer = _LevelParser(), _LevelSerializer()
  flags.FLAGS.set_default("verbosity", absl_logging.INFO)


_adopt_verbosity()


@dataclasses.dataclass(frozen=True)
class Settings:
  """How loudly and in which form.

  Attributes:
    is_json: Whether lines are JSON objects.
    level: Least level that is written, as in `logging`.
  """

  is_json: bool = False
  level: int = logging.INFO


class _Handler(logging.Handler):
  """Writes what libraries say with Python's `logging`, from warnings on.

  With `--verbosity=debug`, everything.
  """

  def __init__(self, settings: Settings):
    """Takes the form."""
    level = settings.level
    super().__init__(level if level < logging.INFO else max(level, logging.WARNING))
    self._settings = settings
    self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))

  def emit(self, record: logging.LogRecord) -> None:
    """Writes a record to what is stderr now."""
    if not self._settings.is_json:
      print(redacted(self.format(record)), file=sys.stderr, flush=True)
      return
    more = {"logger": record.name}
    if record.exc_info:
      more["traceback"] = redacted(logging.Formatter().formatException(record.exc_info))
    text = json_line(record.levelno, None, record.getMessage(), more)
    print(text, file=sys.stderr, flush=True)


class _State:
  """What `configure` has set."""

  settings = Settings()
  handler: Optional[_Handler] = None


def settings() -> Settings:
  """Returns what holds now."""
  return _State.settings


def configure(chosen: Optional[Settings] = None) -> None:
  """Applies settings: those of the parsed command line by default."""
  if chosen is None:
    level = absl_logging.converter.absl_to_standard(flags.FLAGS.verbosity)
    chosen = Settings(_FORMAT.value == "json", level)
  root = logging.getLogger()
  if _State.handler is not None:
    root.removeHandler(_State.handler)
  _State.settings, _State.handler = chosen, _Handler(chosen)
  root.addHandler(_State.handler)
  root.setLevel(min(chosen.level, logging.WARNING))
  # Those of Python's `warnings` are objects too, then.
  logging.captureWarnings(chosen.is_json)


def json_line(
  level: int, stage: Optional[str], message: str, more: Optional[dict[str, Any]] = None
) -> str:
  """Returns an object as text, without secrets and without a line's end.

  Args:
    level: As in `logging`.
    stage: What the run is doing.
    message: What happened; line breaks become spaces.
    more: Figures.
  """
  now = datetime.datetime.now(datetime.UTC)
  document = {
    "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    "level": logging.getLevelName(level).lower(),
    "stage": stage,
    "message": redacted(" ".join(message.split())),
    **(more or {}),
  }
  return json.dumps(document)


def complain(name: str, message: str, exit_code: int) -> None:
  """Writes how an app failed, as one line.

  Args:
    name: Of the app.
    message: What, where, and how to mend it.
    exit_code: What the process ends with.
  """
  # Names in messages may come from files of anybody.
  text = printable(redacted(f"{name}: {' '.join(message.split())}"))
  if settings().is_json:
    more = {"exit_code": int(exit_code)}
    text = json_line(logging.ERROR, None, text, more)
  print(text, file=sys.stderr, flush=True)


def complain_of_defect(name: str, error: BaseException) -> None:
  """Writes an unexpected error as one JSON object, with its traceback."""
  trace = "".join(traceback.format_exception(error))
  more = {"exit_code": 1, "traceback": redacted(trace)}
  text = f"{name}: {type(error).__name__}: {error}"
  print(json_line(logging.ERROR, None, text, more), file=sys.stderr, flush=True)
