"""A run nobody has run, with exported files that are real: every section has content."""

import json
import pathlib

from benchmarks.made_runs import Shape, make
from tests.pipelines.handmade_reports import artifact
from tests.tflite_export import mcu_chain
from tflite_export.conversion import sparsify
from tflite_export.decode import tflm_decode

SHAPE = Shape(rounds=40, layers=4, clients=8, classes=5, candidates=6, every=5)


def make_whole(folder: pathlib.Path, shape: Shape = SHAPE) -> pathlib.Path:
  """Writes a run directory of which every section can be shown, and returns it."""
  make(folder, shape)
  dense = mcu_chain.chain_of_layers(0.03)
  encoded = tflm_decode.encode_pruned(dense).model_bytes
  files = {
    "export/android/int8_dense.tflite": ("int8_dense", dense, None),
    "export/android/int8_sparse.tflite": (
      "int8_sparse",
      sparsify.sparsify(dense),
      None,
    ),
    "export/mcu/model.tflite": ("int8_decode", encoded, 26_816),
    "export/mcu/model_dense.tflite": ("int8_dense", dense, 7_984),
  }
  rows = []
  for path, (name, content, arena_bytes) in files.items():
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    rows.append(
      artifact(
        path,
        format=name,
        bytes=len(content),
        dense_bytes=len(content) * 2,
        arena_bytes=arena_bytes,
      )
    )
  report = json.loads((folder / "report.json").read_text())
  report["artifacts"] = rows
  report["accuracy"] |= {"dense": 0.91} | {row["path"]: 0.89 for row in rows}
  (folder / "report.json").write_text(json.dumps(report))
  return folder
