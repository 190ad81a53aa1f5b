"""How training went: curves by round, and the candidates before them."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from pipelines.report_page import column_chart, line_chart, numbers
from pipelines.report_page.content import Block, Chart, Grid, Section, Table
from pipelines.report_page.run_record import Round, RunRecord

MOST_POINTS = 320
_TRAIN, _EVAL, _DENSE = 0, 1, 2


def rounds(run: RunRecord) -> Section:
  """Returns accuracy and loss by round, the mask's adjustments marked."""
  key, title = "rounds", "Training, round by round"
  if not run.rounds:
    return Section(key, title, absent="No round was run, or metrics.csv is not there.")
  blocks: list[Block] = []
  if any(row.train_accuracy is not None for row in run.rounds) and run.has_classes:
    blocks.append(_curves(run, "Accuracy", "accuracy"))
  blocks.append(_curves(run, "Loss", "loss"))
  events = run.report["events"]
  lead = (
    f"{len(run.rounds):,} rounds"
    + (
      f", {len(events):,} adjustments of the mask (▲)" if events else ", no adjustments"
    )
    + ". “Held out” is measured on parts of the clients' data that nobody trains on."
  )
  if len(run.rounds) > MOST_POINTS:
    lead += " Drawn are peaks, evaluations and adjustments; the CSV holds every round."
  return Section(key, title, lead, tuple(blocks))


def event_tips(run: RunRecord) -> list[line_chart.Event]:
  """Returns what is marked in charts of rounds."""
  found = []
  for event in run.report["events"]:
    dropped = sum(layer["dropped"] for layer in event["layers"])
    grown = sum(layer["grown"] for layer in event["layers"])
    found.append(
      line_chart.Event(
        event["round"],
        f"Round {event['round']:,}: block {event['block']} adjusted\n"
        f"{dropped:,} dropped, {grown:,} grown",
      )
    )
  return found


def chosen_rounds(
  rows: Sequence[Round], get: Callable[[Round], Optional[float]], events: set[int]
) -> list[Round]:
  """Returns the rounds to draw: peaks, adjustments, and the ends."""
  keep = {place for place, row in enumerate(rows) if row.number in events}
  places = numbers.thinned([get(row) for row in rows], keep, MOST_POINTS)
  return [rows[place] for place in places]


def _curves(run: RunRecord, title: str, what: str) -> Chart:
  events = {event["round"] for event in run.report["events"]}
  is_share = what == "accuracy"
  write = numbers.percent if is_share else numbers.figure
  lines = (
    ("training", _TRAIN, run.rounds, f"train_{what}"),
    ("held out", _EVAL, run.rounds, f"eval_{what}"),
    ("held out, dense run", _DENSE, run.dense_rounds, f"eval_{what}"),
  )
  series = []
  for name, style, rows, attribute in lines:
    known = [row for row in rows if getattr(row, attribute) is not None]
    if not known:
      continue
    drawn = chosen_rounds(known, operator.attrgetter(attribute), events)
    points = tuple((row.number, getattr(row, attribute)) for row in drawn)
    series.append(line_chart.Series(name, points, style))
  drawn = chosen_rounds(run.rounds, operator.attrgetter(f"train_{what}"), events)
  if not series:
    series = [line_chart.Series("nothing measured", ((0, None),), _TRAIN)]
  axes = line_chart.Axes(
    "round", lambda value: numbers.percent(value, 0) if is_share else numbers.figure(value),
    (0.0, 1.0) if is_share else (0.0, float("inf")),
  )  # fmt: skip
  dense = {row.number: getattr(row, f"eval_{what}") for row in run.dense_rounds}

  def tip(row: Round) -> str:
    values = (
      getattr(row, f"train_{what}"),
      getattr(row, f"eval_{what}"),
      dense.get(row.number),
    )
    told = [
      f"{name} {write(value)}"
      for (name, *_), value in zip(lines, values, strict=True)
      if value is not None
    ]
    return "\n".join([f"Round {row.number:,}", *told])

  tips = [(float(row.number), tip(row)) for row in drawn]
  legend = [line_chart.key(each.name, each.style) for each in series]
  if events:
    legend.append(line_chart.event_key("mask adjusted"))
  return Chart(
    f"{title} by round",
    line_chart.draw(
      f"{title} by round", _in_words(series, write), series, axes, event_tips(run), tips
    ),
    _rounds_table(run, title, what),
    tuple(legend),
  )


def _in_words(
  series: Sequence[line_chart.Series], write: Callable[[float], str]
) -> str:
  told = []
  for each in series:
    values = [y for _, y in each.points if y is not None]
    if values:
      told.append(f"{each.name}: from {write(values[0])} to {write(values[-1])}")
  return "; ".join(told) or "Nothing was measured"


def _rounds_table(run: RunRecord, title: str, what: str) -> Table:
  blocks = {event["round"]: event["block"] for event in run.report["events"]}
  dense = {row.number: getattr(row, f"eval_{what}") for row in run.dense_rounds}
  rows = tuple(
    (
      row.number, getattr(row, f"train_{what}"), getattr(row, f"eval_{what}"),
      dense.get(row.number), blocks.get(row.number),
    )
    for row in run.rounds
  )  # fmt: skip
  columns = (
    "round", f"training {what}", f"held-out {what}", f"held-out {what}, dense run",
    "adjusted block",
  )  # fmt: skip
  return Table(f"{title} by round", columns, rows, f"{what}_by_round")


def selection(run: RunRecord) -> Section:
  """Returns the candidates' losses and which one won."""
  key, title = "selection", "Choice of the first mask"
  rows = run.report["selection"]
  if not rows:
    return Section(key, title, absent="This method selects no mask among candidates.")
  table = _candidates(rows)
  dots = [
    column_chart.Dot(
      row["candidate"],
      _finite(row["loss"]),
      f"Candidate {row['candidate']}{' (chosen)' if row['chosen'] else ''}\n"
      f"loss {numbers.figure(_finite(row['loss']), 5)}, accuracy "
      f"{numbers.percent(_finite(row['accuracy']))}\ndensity {numbers.percent(row['density'], 2)}",
      bool(row["chosen"]),
    )
    for row in rows
  ]
  winners = [dot for dot in dots if dot.is_winner]
  name = f"candidate {winners[0].x}" if winners else "no candidate"
  if all(dot.y is None for dot in dots):
    lead = (
      "The method makes one first mask; nothing was scored."
      if len(rows) == 1
      else f"{len(rows):,} candidates without a loss: nothing was scored; {name} is used."
    )
    return Section(key, title, lead, (Grid(table),))
  least = min(dot.y for dot in dots if dot.y is not None)
  how = "had the least loss" if winners and winners[0].y == least else "was chosen"
  lead = (
    f"Clients scored {len(rows):,} candidate masks of the same density on their held-out "
    f"parts; {name} (★) {how} and starts the rounds."
  )
  if run.report.get("privacy"):
    lead = f"Noisy scores of {len(rows):,} candidate masks chose {name} (★)."
  chart = Chart(
    "Loss of each candidate",
    column_chart.dots("Loss of each candidate", lead, _most(dots), "candidate"),
  )
  return Section(key, title, lead, (chart, Grid(table, is_wide=False)))


def _candidates(rows: Sequence[Mapping[str, Any]]) -> Table:
  return Table(
    "Candidates",
    ("candidate", "density", "loss", "accuracy", "chosen"),
    tuple(
      (
        row["candidate"], row["density"], _finite(row["loss"]), _finite(row["accuracy"]),
        "yes" if row["chosen"] else "",
      )
      for row in rows
    ),
    "candidates",
    words=(0, 4),
    shown=tuple(
      (
        str(row["candidate"]), numbers.percent(row["density"], 2),
        numbers.figure(_finite(row["loss"])), numbers.percent(_finite(row["accuracy"])),
        "★ chosen" if row["chosen"] else "",
      )
      for row in rows
    ),
  )  # fmt: skip


def _finite(value: Optional[float]) -> Optional[float]:
  return value if numbers.is_number(value) else None


def _most(dots: list[column_chart.Dot]) -> list[column_chart.Dot]:
  """Returns few enough dots, the winner among them."""
  keep = {place for place, dot in enumerate(dots) if dot.is_winner}
  places = numbers.thinned([dot.y for dot in dots], keep, MOST_POINTS)
  return [dots[place] for place in places]
