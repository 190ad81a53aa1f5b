"""Reports, rows of artifacts and exports that nothing was trained or converted for."""

from collections.abc import Sequence
from typing import Any, Optional


def artifact(path: str, **changes: Any) -> dict[str, Any]:
  """Returns a row of `artifacts` in a report."""
  return {
    "path": path,
    "target": path.split("/")[1],
    "format": "fp32_sparse",
    "bytes": 27_532,
    "dense_bytes": 152_856,
    "density": 0.1,
    "accuracy": 0.875,
    "class_accuracy": [1.0, 0.75],
    "auc": None,
    "argmax_agreement": 1.0,
    "max_abs_error": 1e-6,
    "runtime": "a runtime 1.0",
    "arena_bytes": None,
    "note": None,
    "arm64": None,
    "latency": None,
    "firmware_objects": None,
    **changes,
  }


def toy_bundle(
  target: str, format: str = "fp32_sparse", more: Optional[dict[str, bytes]] = None
) -> Any:
  """Returns an `ExportBundle` of one scripted file, a text and more files."""
  from tflite_export.artifacts import Artifact, ExportBundle

  path = f"{target}/model.tflite"
  row = Artifact(
    path=path, target=target, format=format, bytes=5, dense_bytes=9, density=0.1,
    accuracy=0.5, class_accuracy=(0.5,) * 10, auc=None, argmax_agreement=1.0,
    max_abs_error=0.0, runtime="toy 1", arena_bytes=None,
  )  # fmt: skip
  files = {path: b"bytes", f"{target}/c/README.md": b"text"}
  files |= more or {}
  return ExportBundle(files, (row,))


def _round_cost() -> dict[str, Any]:
  return {
    "parameters": 37_498,
    "macs": 751_232,
    "forward_flops": 187_602.0,
    "training_flops_per_round": 176_721_084.0,
    "adjust_round_flops": 642_854.0,
    "memory_bytes": 54_756,
    "parameter_bytes": 16_820,
    "gradient_bytes": 16_820,
    "index_bytes": 14_796,
    "buffer_bytes": 6_320,
    "activation_bytes": 1_787_136,
    "upload_bytes": 17_988,
    "adjust_upload_bytes": 21_156,
    "download_bytes": 22_612,
    "position_bytes": 4_624,
    "download_bytes_mask_held": 17_988,
    "selection_download_bytes": 60_000,
    "selection_upload_bytes": 10_000,
    "stored_bytes": 21_444,
    "stored_layers": {"dense": 0, "bitmap": 5, "coo": 0, "csr": 0},
  }


def _dataset() -> dict[str, Any]:
  return {
    "name": "digits",
    "input_shape": [8, 8, 1],
    "classes": ["0", "1"],
    "anomaly_classes": [],
    "clients": 4,
    "training_examples": 90,
    "development_examples": 10,
    "public_examples": 6,
    "test_examples": 20,
    "smallest_client": 11,
    "largest_client": 40,
    "partitioner": "dirichlet",
    "bad_records": {"count": 1, "first": ["a.csv, record 3: is NaN"]},
    "duplicates_left_out": {"of_test": 2, "of_public": 0, "of_training": 1},
  }


def _quantisation() -> dict[str, Any]:
  return {
    "mode": "auto",
    "chosen": "post_training",
    "reason": "Post-training quantisation costs 0.20 points of accuracy: within the limit.",
    "figure": "accuracy",
    "float": 0.972,
    "post_training": 0.97,
    "quantisation_aware": None,
    "clients": 4,
    "examples": 10,
    "rounds": 0,
    "public_examples": 0,
    "learning_rate": None,
    "bytes_up_per_client": 0,
    "bytes_down_per_client": 0,
  }


def _event() -> dict[str, Any]:
  moved = {"name": "conv2", "dropped": 1234, "grown": 1234}
  return {"round": 1, "block": 0, "layers": [moved]}


def handmade_report(artifacts: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
  """Returns a valid report: one layer, one candidate, one event."""
  rows = [dict(row) for row in artifacts]
  return {
    "run": {
      "dataset": "digits",
      "model": "digits_cnn",
      "strategy": "fedtiny",
      "target_density": 0.1,
      "rounds": 4,
      "seed": 5,
    },
    "task": "classify",
    "dataset": _dataset(),
    "client_accuracy": {
      "judged_on": "held_out",
      "clients": 4,
      "clients_in_all": 4,
      "mean": 0.95,
      "percentile_10": 0.9,
      "worst": 0.875,
      "worst_client": "2",
    },
    "density": 0.1,
    "density_all_parameters": 0.12,
    "layers": [{"name": "conv2", "shape": [3, 3, 16, 32], "density": 0.1, "block": 0}],
    "accuracy": {"dense": 0.975, "sparse": 0.9625}
    | {row["path"]: row["accuracy"] for row in rows},
    "quantisation": _quantisation(),
    "calibration": {},
    "auc": None,
    "auc_by_model": {"dense": None, "sparse": None}
    | {row["path"]: row["auc"] for row in rows},
    "selection": [
      {"candidate": 0, "density": 0.1, "loss": 2.3, "accuracy": 0.1, "chosen": 1}
    ],
    "events": [_event()],
    "rounds": {"planned": 4, "run": 4, "stopped_early": False, "best_round": 3},
    "artifacts": rows,
    "cost": {**_round_cost(), "dense": _round_cost()},
    "seconds": {"data": 0.5},
  }
