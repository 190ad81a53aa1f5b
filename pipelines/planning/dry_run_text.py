"""A plan of `dry_run` as a person reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import rich.table

# Events and layers that are listed; the JSON has all.
_MOST_ROWS = 12


def show(plan: Mapping[str, Any], console: rich.console.Console) -> None:
  """Prints a plan."""
  for title, rows in _sections(plan):
    table = rich.table.Table(
      title=title,
      title_justify="left",
      box=None,
      show_header=False,
      padding=(0, 2, 0, 0),
    )
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows:
      table.add_row(name, value)
    console.print(table)
    console.print()
  if plan["events"]:
    console.print(_events(plan["events"]))
    if len(plan["events"]) > _MOST_ROWS:
      more = len(plan["events"]) - _MOST_ROWS
      console.print(f"... and {more} more; --format=json lists all", highlight=False)
    console.print()
  if plan["exports"]:
    console.print(_exports(plan["exports"]))
    for row in plan["exports"]:
      if "problem" in row:
        console.print(
          f"{row['target']}: {row['problem']}", highlight=False, markup=False
        )
  console.print("Nothing was trained and nothing written.", highlight=False)


def _sections(
  plan: Mapping[str, Any],
) -> list[tuple[str, list[tuple[str, str]]]]:
  return [
    ("Data", _data(plan["data"])),
    ("Model and method", _model(plan)),
    ("A client in all rounds", _device(plan["device"], plan["traffic"])),
    ("This machine", [
      ("estimated", f"{plan['estimate']['minutes']:,.1f} minutes"),
      ("how", plan["estimate"]["how"]),
    ]),
  ]  # fmt: skip


def _data(data: Mapping[str, Any]) -> list[tuple[str, str]]:
  shape = "×".join(map(str, data["input_shape"]))
  return [
    ("dataset", f"{data['dataset']}, {shape}, {len(data['classes'])} classes"),
    ("clients", f"{data['clients']:,} with {data['smallest_client']:,} to "
     f"{data['largest_client']:,} examples, {data['median_client']:,} in the middle"),
    ("examples", f"{data['training_examples']:,} to train on, "
     f"{data['public_examples']:,} public on the server, "
     f"{data['test_examples']:,} to test on"),
  ]  # fmt: skip


def _model(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
  model, rounds, selection = plan["model"], plan["rounds"], plan["selection"]
  picked = "none"
  if selection["candidates"]:
    picked = (
      f"{selection['how']}, {selection['candidates']} candidates, a client once "
      f"{_bytes(selection['download_bytes'])} down and "
      f"{_bytes(selection['upload_bytes'])} up"
    )
  rows = [
    ("model", f"{model['model']} at width {model['width']:g}, "
     f"{model['prunable_weights']:,} prunable weights"),
    ("method", f"{model['strategy']} to density {model['density']:.4g}"),
    ("selection", picked),
    ("rounds", f"{rounds['rounds']:,} of {rounds['clients_per_round']:,} clients, "
     f"{rounds['local_epochs']} local epochs, batches of {rounds['batch_size']}"
     + (", and as many of dense FedAvg to compare with"
        if rounds["dense_baseline"] else "")),
    ("adjustments", f"{len(plan['events'])}"),
  ]  # fmt: skip
  if rounds["privacy"]:
    private = rounds["privacy"]
    rows.append(
      ("privacy", f"ε = {private['epsilon']:.2f} at δ = {private['delta']:.1e}")
    )
  return rows


def _device(
  device: Mapping[str, Any], traffic: Mapping[str, Any]
) -> list[tuple[str, str]]:
  dense, first = device["dense"], traffic["rounds"][0]

  def beside(own: float, other: float) -> str:
    return f"{100 * own / other:.1f} % of dense" if other else "-"

  def exchanged(way: str) -> str:
    total, whole = traffic[f"{way}_bytes"], traffic[f"dense_{way}_bytes"]
    most = max(row[f"{way}_bytes"] for row in traffic["rounds"])
    return (
      f"{_bytes(first[f'{way}_bytes'])} in the first round, at most {_bytes(most)}; "
      f"{_bytes(total)} in all, {beside(total, whole)}"
    )

  return [
    ("download", exchanged("download")),
    ("upload", exchanged("upload")),
    ("memory", f"{_bytes(device['memory_bytes'])} at its peak, "
     f"{beside(device['memory_bytes'], dense['memory_bytes'])}; activations of a batch "
     f"{_bytes(device['activation_bytes'])}"),
    ("FLOPs", f"{device['training_flops_per_round']:.3g} an ordinary round, "
     + beside(device["training_flops_per_round"], dense["training_flops_per_round"])),
  ]  # fmt: skip


def _events(events: Sequence[Mapping[str, Any]]) -> rich.table.Table:
  table = rich.table.Table(title="Mask adjustments")
  table.add_column("round, from 0", justify="right")
  table.add_column("block", justify="right")
  table.add_column("weights moved, by layer", overflow="fold")
  for event in events[:_MOST_ROWS]:
    moved = ", ".join(
      f"{layer['name']} {layer['weights_moved']:,}" for layer in event["layers"]
    )
    gone = "" if event["grows"] else " (gone for good)"
    table.add_row(str(event["round"]), str(event["block"]), moved + gone)
  return table


def _exports(rows: Sequence[Mapping[str, Any]]) -> rich.table.Table:
  table = rich.table.Table(title="Expected files, bytes")
  table.add_column("what")
  for heading in ("about", "dense twin", "arena"):
    table.add_column(heading, justify="right")
  for row in rows:
    if "problem" in row:
      table.add_row(row["target"], "-", "-", "-")
      continue
    arena = row["arena_bytes"]
    table.add_row(
      f"{row['target']} {row['format']}",
      f"{row['bytes']:,}",
      f"{row['dense_bytes']:,}",
      "" if arena is None else f"{arena:,}",
    )
  return table


def _bytes(count: float) -> str:
  """Returns bytes in a unit that a person can compare."""
  for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
    if count >= size:
      return (
        f"{count / size:,.3g} {unit}"
        if count < 1000 * size
        else f"{count / size:,.0f} {unit}"
      )
  return f"{count:,.0f} bytes"
