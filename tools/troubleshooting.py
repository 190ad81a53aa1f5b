"""Writes the part of docs/troubleshooting.md that lists every message of the product.

`python -m tools.troubleshooting` writes it anew; with `--check` it only tells whether the
page is that of the code, and which errors do not say how to mend them.
"""

import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Optional

from tools import error_messages
from tools.error_messages import Message

PAGE = "docs/troubleshooting.md"
_BEGIN = (
  "<!-- Written by `python -m tools.troubleshooting`; change the messages instead. -->"
)
# Title, and where its modules' names begin; the first that fits.
AREAS = (
  ("Data", ("fedtiny_tff.data", "pipelines.datasets", "pipelines.settings.data",
            "pipelines.data", "pipelines.make_dataset")),
  ("Models", ("fedtiny_tff.models", "fedtiny_tff.model_structure",
              "fedtiny_tff.masked_models.channel", "fedtiny_tff.masked_models.keras",
              "pipelines.runs.model_files", "pipelines.models.planned_model")),
  ("Several machines", ("fedtiny_tff.federated.runtimes", "pipelines.worker")),
  ("Devices that train", ("fedtiny_tff.devices", "fedtiny_tff.federated.device_rounds",
                          "tflite_export.device_training", "tflite_export.devices",
                          "pipelines.device")),
  ("Privacy and misbehaving clients", ("fedtiny_tff.protection",
                                       "fedtiny_tff.federated.private_sums",
                                       "pipelines.settings.privacy",
                                       "pipelines.apps.credentials",
                                       "pipelines.runs.participation")),
  ("Pruning and training", ("fedtiny_tff",)),
  ("Microcontrollers", ("tflite_export.runtimes.tflm", "tflite_export.microcontrollers",
                        "tflite_export.mcu", "pipelines.firmware", "pipelines.models.density",
                        "pipelines.settings.boards")),
  ("Export and Android", ("tflite_export", "pipelines.export",
                          "pipelines.runs.quantisation", "pipelines.training.quantisation",
                          "pipelines.inspect")),
  ("Commands, flags and run directories", ("pipelines",)),
)  # fmt: skip
_VERBS = (
  "add|admit|ask|begin|bring|build|calibrate|call|check|choose|convert|copy|cut|declare|delete|divide|"
  "draw|end|enter|export|feed|fill|finish|flatten|free|give|go|guard|increase|install|"
  "inline|join|keep|leave|let|list|look|lower|make|measure|mend|mount|move|name|omit|pack|pad|pass|pip|prepare|"
  "raise|read|reduce|remove|rename|repeat|replace|restore|return|run|save|say|see|send|set|"
  "shorten|split|start|state|store|take|train|try|turn|unpack|unroll|use|wait|write"
)
# Words before the verb of an advice; after the others it would be none, or a noun.
_OTHER_WORDS = (
  r"(?!(?:a|an|are|be|cannot|has|have|is|its|no|not|of|the|to|was|were)\b)[^\s;:]+"
)
# Where the advice of a message begins: with a verb, after a mark or at "must".
_ADVICE = re.compile(
  rf"(?:[;:,.] |[;:] (?:{_OTHER_WORDS} ){{1,9}}?|, (?:so|or) )(?:{_VERBS})\b"
)
_REQUIRES = re.compile(
  r"\b(?:must|needs?|needed|expected|takes?|known are|exclude each other|only|"
  r"is missing|0 takes all|choose|wants?|of 1 to|from 1|no more than|at most|"
  r"its (?:classes|columns|splits) are|Models that do)\b"
)
# What to do about messages that name no mend, by exit code.
_WITHOUT_MEND = {
  None: "Nothing: the command goes on",
  3: "Nothing was shipped: see [exports that fail](#exports-that-fail)",
}
# What is passed on has a mend of its own.
_ANOTHER = re.compile(r"<(?:error|problem|found|bad|origin|excesses)>$")


def mend_of(message: Message) -> str:
  """Returns the part of a message that says how to mend it, or nothing."""
  found = _ADVICE.search(message.pattern)
  if found:
    return re.sub(r"^\W+(?:so |or )?", "", message.pattern[found.start() :])
  found = _REQUIRES.search(message.pattern)
  if found:
    return message.pattern[found.start() :].split(", got")[0]
  return ""


def without_mend(messages: Sequence[Message]) -> list[str]:
  """Lists errors that leave their reader alone, as lines for people.

  A record's error gets its mend from whoever stops at it, a message that only passes
  another one on has that one's; a failed verification tells of the model, not of input.
  """
  return [
    f"{each.module}:{each.line}: says no mend: {each.pattern}"
    for each in messages
    if each.exit_code in (2, 4)
    and not (each.is_record or each.passes_on or mend_of(each))
    and not _ANOTHER.search(each.pattern)
  ]


def area(module: str) -> str:
  """Returns under which title the messages of a module stand."""
  return next(title for title, starts in AREAS if module.startswith(starts))


def _cell(text: str) -> str:
  return text.replace("|", "\\|").replace("\n", " ")


def _row(message: Message) -> str:
  code = "warning" if message.exit_code is None else str(message.exit_code)
  shown = _cell(message.pattern).replace("`", "'")
  # A narrow column breaks names at their dots.
  module = message.module.replace("_", "\\_").replace(".", ".<wbr>")
  return f"| `{shown}` | {_advice(message)} | {code} | {module} |"


def _advice(message: Message) -> str:
  mend = mend_of(message)
  if message.is_record:
    return "Mend the record, or leave such out with `--on_bad_record=skip`"
  if not mend and _ANOTHER.search(message.pattern):
    return "What stands at its end says it"
  if not mend:
    return _WITHOUT_MEND.get(message.exit_code, "See the message")
  if re.match(r"(?:must|needs|takes|wants)\b", mend):
    mend = f"it {mend}"
  mend = _cell(mend).replace("`", "").replace("<", "&lt;")
  mend = re.sub(r"([*\[\]])", r"\\\1", mend)
  mend = re.sub(r"(?<!\w)(--\w+(?:=[\w,.:]+)?)", r"`\1`", mend)
  return mend[0].upper() + mend[1:]


def table(messages: Sequence[Message]) -> str:
  """Returns the generated part of the page."""
  parts = [_BEGIN]
  shown = [each for each in messages if not each.passes_on]
  for title, _ in AREAS:
    rows = sorted({
      (each.pattern, _row(each)) for each in shown if area(each.module) == title
    })  # fmt: skip
    head = ["| message | how to mend it | exit | from |", "| --- | --- | --- | --- |"]
    parts.append("\n".join([f"### {title}\n", *head, *(row for _, row in rows)]))
  return "\n\n".join(parts) + "\n"


def written(page: str, messages: Sequence[Message]) -> str:
  """Returns the page with its generated part anew.

  Args:
    page: The text before, of which all up to the generated part is kept.
    messages: Those of the product.
  """
  return page.split(_BEGIN, maxsplit=1)[0] + table(messages)


def main(argv: Optional[Sequence[str]] = None) -> int:
  """Writes or checks the page of this checkout and returns the exit code."""
  arguments = sys.argv[1:] if argv is None else argv
  root = pathlib.Path(__file__).resolve().parents[1]
  page = root / PAGE
  messages = error_messages.messages(root)
  problems = without_mend(messages)
  text = page.read_text(encoding="utf-8")
  wanted = written(text, messages)
  if "--check" in arguments and text != wanted:
    problems.append(
      f"{PAGE} is not that of the code: run python -m tools.troubleshooting"
    )
  elif text != wanted:
    page.write_text(wanted, encoding="utf-8")
  print("\n".join(problems), end="\n" if problems else "")
  return 1 if problems else 0


if __name__ == "__main__":
  sys.exit(main())
