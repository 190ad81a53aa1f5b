"""What clients hold, how well the model serves each, and which class it takes for which."""

import numpy as np

from pipelines.report_page import bar_chart, heat_map, numbers
from pipelines.report_page.content import (
  Block,
  Card,
  Cards,
  Chart,
  Grid,
  Section,
  Table,
)
from pipelines.report_page.run_record import RunRecord

_MOST_BARS = 30
_PARTS = 20
_MOST_CONFUSIONS = 10
# A label beyond these names no class of any data set.
_MOST_CLASSES = 100_000
_HIDDEN = (
  "This run hides what single clients report ({how}), so nothing about single clients "
  "stands here."
)


_ON_DEVICES = "Clients were devices: what they have, and how well they are served, is theirs to know."


def _hidden(run: RunRecord) -> str:
  """Returns why nothing is known of single clients; empty where it is."""
  if run.report["run"].get("device_exchange"):
    return _ON_DEVICES
  if not run.is_hidden:
    return ""
  how = "differential privacy" if run.report.get("privacy") else "secure aggregation"
  return _HIDDEN.format(how=how)


def labels(run: RunRecord) -> Section:
  """Returns who holds how many examples of which class."""
  key, title = "labels", "Classes by client"
  if hidden := _hidden(run):
    return Section(key, title, absent=hidden)
  names = run.report["dataset"]["classes"]
  if not run.client_labels:
    why = "client_labels.csv is not there: this run was made before it was written."
    if not names:
      why = "The data have no classes."
    return Section(key, title, absent=why)
  clients = list(dict.fromkeys(client for client, _, _ in run.client_labels))
  place = {client: number for number, client in enumerate(clients)}
  highest = max(label for _, label, _ in run.client_labels)
  counts = np.zeros([max(len(names), min(highest, _MOST_CLASSES) + 1), len(clients)])
  for client, label, examples in run.client_labels:
    if label < len(counts):
      counts[label, place[client]] += examples
  order = np.argsort(-counts.sum(axis=0), kind="stable")
  classes = [_class(names, label) for label in range(len(counts))]
  shown = heat_map.binned(
    counts[:, order],
    heat_map.Labels(classes, [clients[client] for client in order], "class", "client"),
  )
  in_all = run.report["dataset"]["clients"]
  shares = counts.max(axis=0) / np.maximum(counts.sum(axis=0), 1)
  lead = (
    f"{in_all:,} client{'s' if in_all > 1 else ''}, the largest first, training and "
    "held-out examples. "
    f"Of a client's examples, {numbers.percent(float(np.median(shares)), 0)} are of its most "
    "frequent class (median); the more, the harder the federation."
  )
  if len(clients) < in_all:
    lead += f" Shown are {len(clients):,} of every size."
  chart = _held(run, shown, lead)
  return Section(key, title, lead, (chart,))


def _held(run: RunRecord, shown: heat_map.Binned, lead: str) -> Chart:
  names = run.report["dataset"]["classes"]
  table = Table(
    "Examples by client and class",
    ("client", "class", "examples"),
    tuple((client, _class(names, label), n) for client, label, n in run.client_labels),
    "classes_by_client",
    words=(0, 1),
  )
  return Chart(
    "Examples by class and client",
    heat_map.draw(
      "Examples by class and client", lead, shown, is_wide=True, unit="examples"
    ),
    table,
    heat_map.scale_key("none", "most examples"),
    "Neighbours are put together: a place is the sum over several."
    if shown.is_binned
    else "",
    is_wide=True,
  )


def _class(names: list[str], label: int) -> str:
  return names[label] if label < len(names) else f"label {label}"


def accuracy(run: RunRecord) -> Section:
  """Returns how accuracy is spread over clients."""
  key, title = "clients", "Accuracy by client"
  if hidden := _hidden(run):
    return Section(key, title, absent=hidden)
  if not run.has_classes:
    why = "The model gives examples again and has no accuracy; see its AUC."
    return Section(key, title, absent=why)
  summary = run.report.get("client_accuracy")
  judged = [client for client in run.clients if client[1] > 0]
  if not summary or not judged:
    return Section(
      key,
      title,
      absent="No client has examples to be judged on, or clients.csv is not there.",
    )
  on = (
    "their own test examples"
    if summary["judged_on"] == "test"
    else "their held-out parts"
  )
  lead = f"The final sparse model, client by client, on {on}."
  if summary["clients"] < summary["clients_in_all"]:
    lead += (
      f" {summary['clients']:,} of {summary['clients_in_all']:,} clients were drawn."
    )
  cards = Cards(
    (
      Card("mean", numbers.percent(summary["mean"])),
      Card("10th percentile", numbers.percent(summary["percentile_10"])),
      Card(
        "worst", numbers.percent(summary["worst"]), f"client {summary['worst_client']}"
      ),
      Card("clients judged", numbers.count(summary["clients"])),
    )
  )
  ordered = sorted(judged, key=lambda client: (client[2] / client[1], client[0]))
  table = Table(
    "Accuracy by client, the worst first",
    ("client", "examples", "correct", "accuracy"),
    tuple((name, n, hits, hits / n) for name, n, hits in ordered),
    "accuracy_by_client",
    shown=tuple(
      (name, f"{n:,}", f"{hits:,}", numbers.percent(hits / n))
      for name, n, hits in ordered
    ),
  )
  chart = _bars(ordered) if len(ordered) <= _MOST_BARS else _histogram(ordered)
  return Section(key, title, lead, (cards, chart, Grid(table, is_wide=False)))


def _bars(ordered: list[tuple[str, int, int]]) -> Chart:
  rows = [
    bar_chart.Bar(
      name,
      hits / n,
      numbers.percent(hits / n),
      f"Client {name}\n{hits:,} of {n:,} correct",
      0,
    )
    for name, n, hits in ordered
  ]
  title = "Each client, the worst first"
  return Chart(
    title,
    bar_chart.bars(
      title, f"{len(rows)} clients", rows, lambda v: numbers.percent(v, 0)
    ),
  )


def _histogram(ordered: list[tuple[str, int, int]]) -> Chart:
  shares = np.array([hits / n for _, n, hits in ordered])
  counts, edges = np.histogram(shares, bins=_PARTS, range=(0.0, 1.0))
  kept = range(int(np.flatnonzero(counts)[0]), _PARTS)
  rows = [
    bar_chart.Bar(
      f"{edges[part]:.0%} to {edges[part + 1]:.0%}", int(counts[part]), f"{counts[part]:,}",
      f"{counts[part]:,} clients between {edges[part]:.0%} and {edges[part + 1]:.0%}",
    )
    for part in kept
  ]  # fmt: skip
  title = "How many clients have which accuracy"
  return Chart(
    title, bar_chart.bars(title, f"{len(ordered):,} clients", rows, numbers.count)
  )


def confusion(run: RunRecord) -> Section:
  """Returns which class is taken for which on the test split."""
  key, title = "confusion", "Which class is taken for which"
  names = run.report["dataset"]["classes"]
  if not run.has_classes:
    return Section(
      key, title, absent="The model gives examples again; it has no classes."
    )
  if not run.confusion:
    return Section(
      key,
      title,
      absent="confusion.csv is not there: this run was made before it was written.",
    )
  top = max(max(label, answer) for label, answer, _ in run.confusion)
  size = max(len(names), min(top, _MOST_CLASSES) + 1)
  if size > 4096:
    return Section(key, title, "", (_worst(run, names),))
  counts = np.zeros([size, size])
  for label, answer, examples in run.confusion:
    if max(label, answer) < size:
      counts[label, answer] += examples
  total, hits = counts.sum(), np.trace(counts)
  classes = [_class(names, label) for label in range(size)]
  shown = heat_map.binned(
    counts, heat_map.Labels(classes, classes, "class", "answer"), 60, 60
  )
  lead = (
    f"The final sparse model on the test split: {hits:,.0f} of {total:,.0f} right "
    f"({numbers.percent(float(hits / max(total, 1)), 2)}). Rows are what was right, columns what "
    "was answered; shades are shares of the row."
  )
  table = Table(
    "Answers on the test split",
    ("class", "answer", "examples"),
    tuple((_class(names, a), _class(names, b), n) for a, b, n in run.confusion),
    "confusion",
    words=(0, 1),
  )
  blocks: list[Block] = [
    Chart(
      "Answers on the test split",
      heat_map.draw("Confusion matrix", lead, shown, by_row=True, unit="examples"),
      table,
      heat_map.scale_key("none", "all of the class"),
      "Classes next to each other are put together." if shown.is_binned else "",
    )
  ]
  return Section(key, title, lead, (*blocks, _worst(run, names)))


def _worst(run: RunRecord, names: list[str]) -> Block:
  of_class: dict[int, int] = {}
  for label, _, examples in run.confusion:
    of_class[label] = of_class.get(label, 0) + examples
  wrong = sorted(
    (row for row in run.confusion if row[0] != row[1]),
    key=lambda row: (-row[2], row[:2]),
  )
  rows = [
    (_class(names, label), _class(names, answer), examples, numbers.percent(examples / of_class[label]))
    for label, answer, examples in wrong[:_MOST_CONFUSIONS]
  ]  # fmt: skip
  table = Table(
    "Most frequent mistakes" if rows else "No mistakes on the test split",
    ("class", "taken for", "examples", "of the class"),
    tuple(rows),
    "mistakes",
    words=(0, 1),
  )
  return Grid(table, is_wide=False)
