"""What a page consists of, before it is HTML: sections of charts, tables and pictures."""

import base64
import csv
import dataclasses
import io
import urllib.parse
from typing import Optional, Union

from markupsafe import Markup

# Longer tables are whole in their CSV only.
_SHOWN_ROWS = 200

Cell = Union[str, int, float, None]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table, which is CSV as well.

  Attributes:
    caption: What it shows.
    columns: Headings.
    rows: Cells; the first is the row's heading.
    name: Of the CSV file, without its ending.
    words: Places of columns that hold words, not numbers.
    shown: The same as texts for people; None shows the cells as they are.
  """

  caption: str
  columns: tuple[str, ...]
  rows: tuple[tuple[Cell, ...], ...]
  name: str
  words: tuple[int, ...] = (0,)
  shown: Optional[tuple[tuple[str, ...], ...]] = None

  @property
  def shown_rows(self) -> list[list[str]]:
    """Returns the first rows as texts."""
    if self.shown is not None:
      return [list(row) for row in self.shown[:_SHOWN_ROWS]]
    return [[_text(cell) for cell in row] for row in self.rows[:_SHOWN_ROWS]]

  @property
  def left_out(self) -> int:
    """How many rows are only in the CSV."""
    return max(0, len(self.rows) - _SHOWN_ROWS)

  @property
  def link(self) -> str:
    """Returns the table as a `data:` address of a CSV file."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_harmless(cell) for cell in self.columns])
    writer.writerows([[_harmless(cell) for cell in row] for row in self.rows])
    quoted = urllib.parse.quote(file.getvalue(), safe=" ,.:;-_/()=+*")
    return f"data:text/csv;charset=utf-8,{quoted}".replace(" ", "%20")


def _text(cell: Cell) -> str:
  if cell is None:
    return "–"
  if isinstance(cell, float):
    return f"{cell:,.6g}"
  return f"{cell:,}" if isinstance(cell, int) else cell


def _harmless(cell: Cell) -> Cell:
  """Returns a cell that spreadsheets do not compute."""
  if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
    return f"'{cell}"
  return cell


@dataclasses.dataclass(frozen=True)
class Key:
  """An entry of a legend.

  Attributes:
    swatch: A small picture of the line, mark or area.
    label: What it stands for.
  """

  swatch: Markup
  label: str


@dataclasses.dataclass(frozen=True)
class Chart:
  """A chart with the numbers behind it.

  Attributes:
    title: Above it.
    svg: The picture.
    table: The numbers.
    legend: What colours and shapes stand for.
    note: A sentence below.
    is_wide: Whether it takes the whole width.
  """

  title: str
  svg: Markup
  table: Optional[Table] = None
  legend: tuple[Key, ...] = ()
  note: str = ""
  is_wide: bool = False

  kind = "chart"


@dataclasses.dataclass(frozen=True)
class Card:
  """A figure that is read first.

  Attributes:
    label: What it is.
    value: The figure.
    detail: What it is to be compared with.
    share: From 0 to 1, for a bar below; None without.
    is_key: Whether it is one of the most important.
  """

  label: str
  value: str
  detail: str = ""
  share: Optional[float] = None
  is_key: bool = False


@dataclasses.dataclass(frozen=True)
class Cards:
  """Figures beside each other."""

  cards: tuple[Card, ...]

  kind = "cards"


@dataclasses.dataclass(frozen=True)
class Grid:
  """A table that is read itself, not the numbers behind a chart.

  Attributes:
    table: The table.
    is_folded: Whether it must be opened first.
    is_wide: Whether it takes the whole width.
  """

  table: Table
  is_folded: bool = False
  is_wide: bool = True

  kind = "grid"


@dataclasses.dataclass(frozen=True)
class Picture:
  """An image.

  Attributes:
    title: Above it.
    png: The file's bytes.
    width: Of the image.
    height: Of the image.
    alternative: What it shows, for those who do not see it.
    lines: Facts below.
  """

  title: str
  png: bytes
  width: int
  height: int
  alternative: str
  lines: tuple[str, ...] = ()

  @property
  def link(self) -> str:
    """Returns the image as a `data:` address."""
    return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclasses.dataclass(frozen=True)
class Pictures:
  """Images beside each other."""

  pictures: tuple[Picture, ...]
  table: Optional[Table] = None

  kind = "pictures"


@dataclasses.dataclass(frozen=True)
class Text:
  """Words; code is shown as it stands."""

  text: str
  is_code: bool = False
  title: str = ""

  kind = "text"


Block = Union[Chart, Cards, Grid, Pictures, Text]


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page with a heading.

  Attributes:
    key: Its anchor.
    title: Its heading.
    lead: What is to be seen, a sentence or two.
    blocks: Its content; empty where there is nothing to show.
    absent: Why there is nothing to show, a sentence; or what is missing.
  """

  key: str
  title: str
  lead: str = ""
  blocks: tuple[Block, ...] = ()
  absent: str = ""


@dataclasses.dataclass(frozen=True)
class Page:
  """A whole page.

  Attributes:
    title: Of the page.
    subtitle: Below it.
    tags: Short facts beside it.
    notices: Sentences that must be read first.
    sections: Its parts, in order.
  """

  title: str
  subtitle: str
  tags: tuple[str, ...]
  notices: tuple[str, ...]
  sections: tuple[Section, ...]
