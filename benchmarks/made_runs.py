"""Run directories of any size that nobody has run, for pages to be made of."""

import dataclasses
import json
import math
import pathlib
from typing import Any

import numpy as np

from fedtiny_tff import seeds
from pipelines.runs import label_counts, metrics_log

_COST = {
  "parameters": 40_000, "macs": 750_000, "forward_flops": 1.9e5, "training_flops_per_round": 1.8e8,
  "adjust_round_flops": 6.4e5, "memory_bytes": 54_756, "parameter_bytes": 16_820,
  "gradient_bytes": 16_820, "index_bytes": 14_796, "buffer_bytes": 6_320,
  "activation_bytes": 1_787_136, "upload_bytes": 17_988, "adjust_upload_bytes": 21_156,
  "download_bytes": 22_612, "position_bytes": 4_624, "download_bytes_mask_held": 17_988,
  "selection_download_bytes": 60_000, "selection_upload_bytes": 10_000, "stored_bytes": 21_444,
  "stored_layers": {"dense": 0, "bitmap": 5, "coo": 0, "csr": 0},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shape:
  """How large a run is.

  Attributes:
    rounds: Rounds.
    layers: Prunable layers, at least one.
    clients: Clients, at least one.
    classes: Classes; 0 for a model that gives examples again.
    candidates: Candidate masks.
    every: An adjustment comes after as many rounds; 0 for none.
    name: Of every layer and class, before its number.
  """

  rounds: int = 300
  layers: int = 50
  clients: int = 100
  classes: int = 10
  candidates: int = 20
  every: int = 3
  name: str = "layer"


def make(folder: pathlib.Path, shape: Shape) -> pathlib.Path:
  """Writes a run directory and returns it.

  Args:
    folder: Where; made if it does not exist.
    shape: How large.
  """
  folder.mkdir(parents=True, exist_ok=True)
  generator = seeds.generator(0, "made_run")
  names = [f"{shape.name}{number}" for number in range(shape.layers)]
  kernels = [(3, 3, 8, 8 * (1 + number % 4)) for number in range(shape.layers)]
  masks = {
    name: generator.random(kernel) < 0.1
    for name, kernel in zip(names, kernels, strict=True)
  }
  events = _events(shape, names)
  (folder / "model").mkdir(exist_ok=True)
  np.savez_compressed(folder / "model" / "masks.npz", **masks)
  (folder / "run.flags").write_text(
    "--dataset=made\n--model=made\n--strategy=fedtiny\n--seed=0\n"
  )
  (folder / "metrics.csv").write_text(_metrics(shape, events, generator))
  report = _report(shape, masks, events, generator)
  (folder / "report.json").write_text(json.dumps(report))
  if shape.classes:
    _write_tables(folder, shape, generator)
  return folder


def _events(shape: Shape, names: list[str]) -> list[dict[str, Any]]:
  found = []
  for number, after in enumerate(range(shape.every, shape.rounds, max(shape.every, 1))):
    if not shape.every:
      break
    moved = 1 + round(20 * (1 + math.cos(math.pi * after / shape.rounds)))
    layers = [
      {"name": name, "dropped": moved, "grown": moved}
      for name in names[number % 5 :: 5]
    ]
    found.append({"round": after, "block": number % 5, "layers": layers})
  return found


def _metrics(
  shape: Shape, events: list[dict[str, Any]], generator: np.random.Generator
) -> str:
  blocks = {event["round"]: event["block"] for event in events}
  rows = []
  for number in range(shape.rounds):
    loss = 2.0 * math.exp(-number / 40) + 0.1 * float(generator.random())
    row: dict[str, Any] = dict.fromkeys(metrics_log.COLUMNS, "")
    row |= {
      "round": number, "train_loss": round(loss, 6), "density": 0.1, "clients": 10, "reports": 10,
      "bytes_up_per_client": 17_988, "bytes_down_per_client": 22_612,
      "adjusted_block": blocks.get(number, ""),
    }  # fmt: skip
    if shape.classes:
      row["train_accuracy"] = round(math.exp(-loss), 6)
    if number % 5 == 4:
      row |= {"eval_loss": round(loss * 1.1, 6)}
      row |= {"eval_accuracy": round(math.exp(-1.1 * loss), 6)} if shape.classes else {}
    rows.append(row)
  return metrics_log.to_csv(metrics_log.COLUMNS, rows)


def _report(
  shape: Shape,
  masks: dict[str, np.ndarray],
  events: list[dict[str, Any]],
  generator: np.random.Generator,
) -> dict[str, Any]:
  quality = 0.9 if shape.classes else None
  return {
    "run": {
      "dataset": "made", "model": "made", "strategy": "fedtiny", "target_density": 0.1,
      "rounds": shape.rounds, "seed": 0,
    },
    "task": "classify" if shape.classes else "reconstruct",
    "dataset": {
      "name": "made", "input_shape": [32, 32, 3], "anomaly_classes": [],
      "classes": [f"{shape.name}{number}" for number in range(shape.classes)],
      "clients": shape.clients, "training_examples": 20 * shape.clients,
      "development_examples": 5 * shape.clients, "public_examples": 10, "test_examples": 1000,
      "smallest_client": 25, "largest_client": 25,
    },
    "density": 0.1,
    "density_all_parameters": 0.12,
    "layers": [
      {"name": name, "shape": list(mask.shape), "density": float(mask.mean()), "block": 0}
      for name, mask in masks.items()
    ],
    "accuracy": {"dense": None, "sparse": quality},
    "client_accuracy": {
      "judged_on": "test", "clients": shape.clients, "clients_in_all": shape.clients, "mean": 0.9,
      "percentile_10": 0.8, "worst": 0.5, "worst_client": "0",
    } if shape.classes else None,
    "privacy": None, "secure_aggregation": None,
    "auc": None if shape.classes else 0.9,
    "auc_by_model": {"dense": None, "sparse": None if shape.classes else 0.9},
    "selection": [
      {
        "candidate": number, "density": 0.1, "loss": 1.5 + float(generator.random()),
        "accuracy": quality and 0.3, "chosen": int(number == shape.candidates // 2),
      }
      for number in range(shape.candidates)
    ],
    "events": events,
    "artifacts": [],
    "calibration": {},
    "cost": {**_COST, "dense": _COST, "prunefl": _COST},
    "seconds": {},
    "versions": {"fedtiny-tff": "0"},
  }  # fmt: skip


def _write_tables(
  folder: pathlib.Path, shape: Shape, generator: np.random.Generator
) -> None:
  """Writes who holds what, who is served how well, and what is taken for what."""
  clients = [f"client {number}" for number in range(min(shape.clients, 1_000))]
  labels, accuracies = [], []
  for client in clients:
    held = generator.choice(shape.classes, min(shape.classes, 4), replace=False)
    labels += [
      {
        "client": client,
        "label": int(label),
        "examples": 1 + int(generator.integers(20)),
      }
      for label in sorted(held)
    ]
    hits = int(generator.integers(21))
    accuracies.append(
      {"client": client, "examples": 20, "correct": hits, "accuracy": hits / 20}
    )
  (folder / "client_labels.csv").write_text(
    metrics_log.to_csv(label_counts.CLIENT_COLUMNS, labels)
  )
  columns = ("client", "examples", "correct", "accuracy")
  (folder / "clients.csv").write_text(metrics_log.to_csv(columns, accuracies))
  right = np.repeat(np.arange(shape.classes), 10)
  answers = np.where(
    generator.random(len(right)) < 0.9,
    right,
    generator.integers(shape.classes, size=len(right)),
  )
  (folder / "confusion.csv").write_text(label_counts.confusion(right, answers))
