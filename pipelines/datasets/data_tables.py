"""What was found in a dataset, as tables on a terminal."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import rich.cells
import rich.console
import rich.table
import rich.text

from fedtiny_tff.data.examples import SPLITS, TEST, TRAIN
from fedtiny_tff.data.sources import texts
from pipelines.datasets import data_warnings

# More are in the JSON document.
_SHOWN_CLASSES = 100
_SHOWN_CLIENTS = 20
# A line and two spaces.
_COLUMN_FRAME = 3
_LISTED_CLASSES = 12
_MISSING_ROWS = 10


def print_document(document: Mapping[str, Any], console: rich.console.Console) -> None:
  """Prints a document of `data_inspection.inspect`, the warnings last."""
  for table in (
    _dataset(document),
    _splits(document),
    _classes(document),
    _clients(document),
    _labels(document, console.width),
    _rejected(document["rejected"]),
  ):
    if table is not None:
      console.print(table)
  for said in document["notes"]:
    _say(console, said)
  for said in document["unavailable"]:
    _say(console, f"Not available: {said}.")
  for said in document["warnings"]:
    _say(console, f"warning: {said}")
  if not document["warnings"]:
    _say(console, "No warnings.")


def _say(console: rich.console.Console, line: str) -> None:
  console.print(_text(line), soft_wrap=True)


def _text(value: object) -> rich.text.Text:
  """Returns a cell that is shown as it stands, whatever characters it has."""
  return rich.text.Text(texts.one_line(str(value)))


def _table(
  title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *,
  words: Collection[int] = (0,),
) -> rich.table.Table:  # fmt: skip
  """Returns a table; columns of words begin at the left, those of numbers end right."""
  table = rich.table.Table(
    title=_text(title), title_justify="left", show_header=any(columns)
  )
  for place, heading in enumerate(columns):
    table.add_column(
      _text(heading), justify="left" if place in words else "right", overflow="fold"
    )
  for row in rows:
    table.add_row(*map(_text, row))
  return table


def _number(value: Any) -> str:
  if value is None:
    return "-"
  return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def _dataset(document: Mapping[str, Any]) -> rich.table.Table:
  found, clients = document["dataset"], document["clients"]
  shape = "×".join(map(str, found["shape"]))
  rows = [
    ("shape, type", f"{shape}, {found['feature_type']}"),
    ("model input", found["preprocessing_in_words"]),
    ("classes", len(found["classes"])),
    ("clients", f"{clients['count']:,} ({clients['partitioner']})"),
  ]
  if found["anomaly_classes"]:
    rows.append(("anomalies", ", ".join(map(texts.value, found["anomaly_classes"]))))
  return _table(f"Dataset {found['name']}", ["", ""], rows, words=(0, 1))


def _splits(document: Mapping[str, Any]) -> rich.table.Table:
  splits = [document["splits"][split] for split in SPLITS]
  by_split = document["rejected"]["by_split"]
  rows = [("examples", *(_number(split["examples"]) for split in splits))]
  if by_split is not None:
    counts = (_number(by_split[split]) for split in SPLITS)
    rows.append(("records that cannot be used", *counts))
  for key, said in (
    ("minimum", "least value"),
    ("maximum", "largest value"),
    ("mean", "mean"),
    ("deviation", "standard deviation"),
    ("examples_not_finite", "examples with NaN or infinity"),
    ("examples_beyond_expected", "examples beyond the expected range"),
    ("constant_examples", "examples with one value throughout"),
  ):
    rows.append((said, *(_number(split["features"][key]) for split in splits)))
  for key, said in (
    ("within", "repeat an earlier example"),
    ("in_other_split", "occur in the other split too"),
  ):
    found = [split["duplicates"] for split in splits]
    shares = (_counted_share(each[key], each[f"{key}_share"]) for each in found)
    rows.append((said, *shares))
  rows.append(
    (
      "repeat one, with another label",
      *(_number(split["duplicates"]["with_another_label"]) for split in splits),
    )
  )
  return _table("Splits", ["as stored", "training", "test"], rows)


def _counted_share(count: int, share: float) -> str:
  return f"{count:,} ({data_warnings.share(share)})" if count else "0"


def _classes(document: Mapping[str, Any]) -> rich.table.Table:
  clients = document["clients"]
  columns = [
    document["dataset"]["classes"],
    document["splits"][TRAIN]["examples_by_class"],
    document["splits"][TEST]["examples_by_class"],
    document["public"]["examples_by_class"],
    [clients["count"] - missing for missing in clients["clients_missing_class"]],
    document["class_weights"],
  ]
  rows = [
    (name, *map(_number, numbers))
    for name, *numbers in list(zip(*columns, strict=True))[:_SHOWN_CLASSES]
  ]
  title = "Classes"
  if len(columns[0]) > _SHOWN_CLASSES:
    title = f"The first {_SHOWN_CLASSES} of {len(columns[0]):,} classes"
  headings = ["class", "training", "test", "public", "clients", "weight"]
  return _table(title, headings, rows)


def _clients(document: Mapping[str, Any]) -> rich.table.Table:
  found = document["clients"]
  sizes = found["sizes"]
  left_out = document["duplicates_left_out"]
  rows = [
    ("clients", _number(found["count"])),
    ("examples they train on", _number(found["training_examples"])),
    ("examples they hold out", _number(found["held_out_examples"])),
    ("public samples of the server", _number(document["public"]["examples"])),
    ("training examples of nobody", _number(document["nobodys_training_examples"])),
    ("  equal to a test example", _number(left_out["of_test"])),
    ("  equal to a public sample", _number(left_out["of_public"])),
    ("  held out, equal to one trained on", _number(left_out["of_training"])),
    *_overlapping(left_out["overlapping"]),
    ("smallest client", _number(sizes["minimum"])),
    ("10th percentile", _number(sizes["percentile_10"])),
    ("median", _number(sizes["median"])),
    ("largest client", _number(sizes["maximum"])),
    ("clients of one example", _number(found["of_one_example"])),
    ("clients of one class", _number(found["of_one_class"])),
    *_missing(found["by_missing_classes"]),
  ]
  return _table("Clients", ["", ""], rows)


def _overlapping(count: int) -> Iterable[tuple[str, str]]:
  if count:
    yield "  share rows with another part", _number(count)


def _missing(clients: Mapping[str, int]) -> Iterable[tuple[str, str]]:
  """Tells how many clients lack how many classes, or of many numbers, the range."""
  if len(clients) <= _MISSING_ROWS:
    for missing, count in clients.items():
      if missing != "0":
        yield f"clients without {missing} of the classes", _number(count)
    return
  numbers = np.repeat([int(missing) for missing in clients], list(clients.values()))
  for said, number in (
    ("fewest classes a client lacks", numbers.min()),
    ("median", float(np.median(numbers))),
    ("most classes a client lacks", numbers.max()),
  ):
    yield said, f"{number:,g}"


def _labels(document: Mapping[str, Any], width: int) -> rich.table.Table:
  """Shows who holds what: a column a class, or where that is too wide, a list."""
  names, clients = document["dataset"]["classes"], document["clients"]
  shown = clients["label_by_client"][:_SHOWN_CLIENTS]
  title = "Examples by client and class"
  if len(shown) < clients["count"]:
    title += f", the first {len(shown)} of {clients['count']:,} clients"
  holders = [
    (each["client"], _number(each["training_examples"] + each["held_out_examples"]))
    for each in shown
  ]
  counts = [each["examples_by_class"] for each in shown]
  rows = [
    (*holder, *map(_number, row)) for holder, row in zip(holders, counts, strict=True)
  ]
  headings = ["client", "all", *map(texts.one_line, names)]
  if _width([headings, *rows]) <= width:
    return _table(title, headings, rows)
  listed = [
    (*holder, _listed(names, row)) for holder, row in zip(holders, counts, strict=True)
  ]
  return _table(title, ["client", "all", "classes"], listed, words=(0, 2))


def _width(rows: Sequence[Sequence[str]]) -> int:
  """Returns how wide a table is in which nothing is folded."""
  widest = [max(map(rich.cells.cell_len, column)) for column in zip(*rows, strict=True)]
  return sum(widest) + _COLUMN_FRAME * len(widest) + 1


def _listed(names: Sequence[str], counts: Sequence[int]) -> str:
  """Names the classes somebody holds, the most frequent first, the last not all."""
  present = [label for label, count in enumerate(counts) if count]
  present.sort(key=lambda label: -counts[label])
  told = [f"{names[label]}: {counts[label]:,}" for label in present[:_LISTED_CLASSES]]
  more = len(present) - len(told)
  return ", ".join(told) + (f" and {more:,} more" if more else "")


def _rejected(found: Mapping[str, Any]) -> Optional[rich.table.Table]:
  if not found["count"]:
    return None
  shown = found["first"]
  title = f"{found['count']:,} records that cannot be used"
  if len(shown) < found["count"]:
    title += f", the first {len(shown)}"
  columns = ["file", "record", "field", "reason"]
  rows = [
    ["-" if record[name] is None else record[name] for name in columns]
    for record in shown
  ]
  return _table(title, columns, rows, words=range(4))
