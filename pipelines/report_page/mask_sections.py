"""What pruning did: densities by layer, adjustments, and pictures of masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.report_page import (
  bar_chart,
  column_chart,
  heat_map,
  line_chart,
  mask_picture,
  numbers,
)
from pipelines.report_page.content import (
  Block,
  Chart,
  Grid,
  Picture,
  Pictures,
  Section,
  Table,
)
from pipelines.report_page.run_record import RunRecord, layer_counts

# More rows than these are drawn as lines along the layers.
_MOST_ROWS = 40
_MOST_COLUMNS = 120
_MOST_PICTURES = 6
_PICTURE_SIDE = 224


def layers(run: RunRecord) -> Section:
  """Returns each layer's density before the first and after the last adjustment."""
  listed = run.report["layers"]
  counts = layer_counts(run.report)
  table = Table(
    "Prunable layers",
    ("layer", "shape", "block", "weights", "left", "density at first", "in the end"),
    tuple(
      (layer["name"], "×".join(map(str, layer["shape"])), layer["block"], size, after,
       before / size, after / size)
      for layer, (size, before, after) in zip(listed, counts, strict=True)
    ),
    "layers",
    words=(0, 1),
    shown=tuple(
      (layer["name"], "×".join(map(str, layer["shape"])), str(layer["block"]), f"{size:,}",
       f"{after:,}", numbers.percent(before / size), numbers.percent(after / size))
      for layer, (size, before, after) in zip(listed, counts, strict=True)
    ),
  )  # fmt: skip
  rows = [
    bar_chart.Change(
      layer["name"],
      before / size,
      after / size,
      f"{layer['name']} ({size:,} weights)\nbefore {numbers.percent(before / size, 2)}, "
      f"{before:,} left\nafter {numbers.percent(after / size, 2)}, {after:,} left",
    )
    for layer, (size, before, after) in zip(listed, counts, strict=True)
  ]
  least, most = (
    numbers.percent(pick(row.after for row in rows)) for pick in (min, max)
  )
  lead = (
    f"{len(rows):,} prunable layer{'s' if len(rows) > 1 else ''}, in the end "
    f"{least if least == most else f'between {least} and {most}'} dense; "
    f"together {numbers.percent(run.report['density'], 2)}."
  )
  moved = any(before != after for _, before, after in counts)
  if run.report["events"] and not moved:
    lead += " Adjustments drop and grow equally many, so every layer keeps its density."
  blocks: tuple[Block, ...] = (_along(rows, lead, table),)
  if len(rows) <= _MOST_ROWS:
    blocks = (_by_row(rows, lead), Grid(table, is_wide=False))
  return Section("layers", "Density of each layer", lead, blocks)


def _by_row(rows: Sequence[bar_chart.Change], lead: str) -> Chart:
  return Chart(
    "Density before and after adjustments",
    bar_chart.changes(
      "Density before and after adjustments", lead, rows, numbers.percent
    ),
    None,
    (
      bar_chart.dot_key("before the first round", 1, True, 0),
      bar_chart.dot_key("in the end", 0, False),
    ),
  )


def _along(rows: Sequence[bar_chart.Change], lead: str, table: Table) -> Chart:
  names = ("before the first round", "in the end")
  series = [
    line_chart.Series(names[1], tuple((n, row.after) for n, row in enumerate(rows)), 0),
    line_chart.Series(
      names[0], tuple((n, row.before) for n, row in enumerate(rows)), 1
    ),
  ]
  axes = line_chart.Axes(
    "layer, from the input on", numbers.percent, (0.0, 1.0), is_wide=True
  )
  tips = [(float(number), row.tip) for number, row in enumerate(rows)]
  return Chart(
    "Density before and after adjustments",
    line_chart.draw("Density along the layers", lead, series, axes, (), tips),
    table,
    tuple(line_chart.key(each.name, each.style) for each in series),
    is_wide=True,
  )


def events(run: RunRecord) -> Section:
  """Returns how many weights every adjustment dropped and grew, and where."""
  key, title = "events", "What adjustments moved"
  found = run.report["events"]
  if not found:
    return Section(
      key, title, absent="The mask was never adjusted: this method keeps its first one, "
      "or the run was too short.",
    )  # fmt: skip
  table = Table(
    "Weights that adjustments moved",
    ("round", "block", "layer", "dropped", "grown"),
    tuple(
      (event["round"], event["block"], layer["name"], layer["dropped"], layer["grown"])
      for event in found
      for layer in event["layers"]
    ),
    "adjustments",
    words=(0, 2),
  )
  dropped = sum(row[3] for row in table.rows)  # type: ignore[misc]
  grown = sum(row[4] for row in table.rows)  # type: ignore[misc]
  lead = (
    f"{len(found):,} adjustments dropped {dropped:,} weights and grew {grown:,}. Early "
    "ones may move many, late ones few: the share follows a cosine."
  )
  return Section(key, title, lead, (_columns(found, table), _where(run, found, table)))


def _columns(found: Sequence[dict[str, Any]], table: Table) -> Chart:
  columns = []
  for part in numbers.bins(len(found), _MOST_COLUMNS):
    together = [found[place] for place in part]
    grown = sum(layer["grown"] for event in together for layer in event["layers"])
    dropped = sum(layer["dropped"] for event in together for layer in event["layers"])
    first, last = together[0], together[-1]
    when = f"Round {first['round']:,}, block {first['block']}"
    if len(together) > 1:
      when = (
        f"Rounds {first['round']:,} to {last['round']:,}, {len(together)} adjustments"
      )
    columns.append(
      column_chart.Column(
        f"{first['round']:,}", grown, dropped,
        f"{when}\n{grown:,} grown\n{dropped:,} dropped",
      )
    )  # fmt: skip
  return Chart(
    "Dropped and grown, by adjustment",
    column_chart.mirrored(
      "Dropped and grown, by adjustment",
      f"{len(found):,} adjustments, grown weights above the line, dropped ones below",
      columns,
      "round",
    ),
    table,
    (
      bar_chart.area_key("grown, above the line", 2),
      bar_chart.area_key("dropped, below it", 1),
    ),
  )


def _where(run: RunRecord, found: Sequence[dict[str, Any]], table: Table) -> Chart:
  names = [layer["name"] for layer in run.report["layers"]]
  places = {name: place for place, name in enumerate(names)}
  moved = np.zeros([len(names), len(found)])
  for number, event in enumerate(found):
    for layer in event["layers"]:
      if layer["name"] in places:
        moved[places[layer["name"]], number] = layer["dropped"] + layer["grown"]
  labels = heat_map.Labels(
    names, [f"{event['round']:,}" for event in found], "", "round"
  )
  shown = heat_map.binned(moved, labels, 60, 60)
  title = "Where weights moved"
  note = (
    "Layers or adjustments next to each other are put together."
    if shown.is_binned
    else ""
  )
  return Chart(
    title,
    heat_map.draw(
      title, "Weights dropped and grown by layer and adjustment; darker is more", shown,
      unit="dropped and grown",
    ),
    table,
    heat_map.scale_key("nothing", "most moved"),
    note,
  )  # fmt: skip


def masks(run: RunRecord) -> Section:
  """Returns pictures of a few telling masks."""
  key, title = "masks", "Masks, seen"
  if not run.masks:
    return Section(key, title, absent="model/masks.npz is not there.")
  if all(mask.all() for mask in run.masks.values()):
    return Section(
      key,
      title,
      absent="Nothing was pruned: every mask is full, and a picture would show that.",
    )
  known = {name: mask_picture.as_matrix(mask) for name, mask in run.masks.items()}
  chosen = _telling(known)
  pictures = tuple(_picture(name, known[name], run.masks[name]) for name in chosen)
  table = Table(
    "Masks",
    ("layer", "weights", "left", "outputs", "outputs without a weight", "inputs without a weight"),
    tuple(
      (name, matrix.size, int(matrix.sum()), matrix.shape[1], int((~matrix.any(axis=0)).sum()),
       int((~matrix.any(axis=1)).sum()))
      for name, matrix in known.items()
    ),
    "masks",
  )  # fmt: skip
  lead = (
    "A row is an input of the layer, a column an output; of convolutions, where they cross "
    "is a whole kernel. Coloured weights are left; of large layers, a point is the share "
    "that is left of several."
  )
  if len(chosen) < len(known):
    lead += (
      f" Of {len(known):,} layers, the first and the last, the densest and the sparsest, and the "
      "largest ones are shown."
    )
  return Section(key, title, lead, (Pictures(pictures, table),))


def _telling(known: dict[str, np.ndarray]) -> list[str]:
  """Names the layers that are shown, in the model's order."""
  names = list(known)
  by_density = sorted(names, key=lambda name: (known[name].mean(), name))
  by_size = sorted(names, key=lambda name: (-known[name].size, name))
  wanted = [names[0], names[-1], by_density[0], by_density[-1], *by_size]
  first = list(dict.fromkeys(wanted))[:_MOST_PICTURES]
  return [name for name in names if name in first]


def _picture(name: str, matrix: np.ndarray, mask: np.ndarray) -> Picture:
  tiles = mask_picture.as_tiles(mask)
  values = mask_picture.shares(tiles, _PICTURE_SIDE)
  left = int(matrix.sum())
  dead = int((~matrix.any(axis=0)).sum())
  density = numbers.percent(left / matrix.size, 2)
  lines = [
    "×".join(map(str, mask.shape)), f"{left:,} of {matrix.size:,} left, {density}",
    f"outputs without any: {dead:,} of {matrix.shape[1]:,}",
  ]  # fmt: skip
  if values.shape != tiles.shape:
    lines.append("put together to fit")
  return Picture(
    name, mask_picture.png(values), values.shape[1], values.shape[0],
    f"Mask of layer {name}: {density} of the weights are left", tuple(lines),
  )  # fmt: skip
