"""What trackers are told in tests."""

import io
from typing import Any

from pipelines.tracking import base


def row(number, **changes):
  return {
    "round": number,
    "train_loss": 2.25 - number,
    "train_accuracy": 0.5,
    "eval_loss": "",
    "eval_accuracy": "",
    "density": 0.1,
    "clients": 3,
    "reports": 2,
    "excluded": 1,
    "attempts": 1,
    "seconds": 0.25,
    "cpu_seconds": 0.5,
    "rss_mb": 512.5,
    "bytes_up_per_client": 100,
    "bytes_down_per_client": 200,
    "adjusted_block": "",
    **changes,
  }


def round_of(number, **changes):
  """Returns a round; odd ones adjust the mask, and are evaluated."""
  if not number % 2:
    return base.Round(row(number, **changes), None, {"conv": 0.25, "logits": 0.5})
  layers = [{"name": "conv", "dropped": 3, "grown": 3}]
  change = {"round": number, "block": 0, "layers": layers}
  made = row(number, adjusted_block=0, eval_loss=1.5, eval_accuracy=0.75, **changes)
  return base.Round(made, change, {"conv": 0.25, "logits": 0.5})


def rounds(count):
  return [round_of(number) for number in range(count)]


CANDIDATES = [
  {"candidate": 0, "density": 0.1, "loss": 2.5, "accuracy": 0.25, "chosen": 0},
  {"candidate": 1, "density": 0.1, "loss": 2.0, "accuracy": "", "chosen": 1},
]
# What a test sets for a secret, and where it must not turn up.
SECRET = "swordfish-4711"


def picture():
  import PIL.Image

  content = io.BytesIO()
  PIL.Image.new("RGB", (6, 4), (255, 0, 0)).save(content, "PNG")
  return content.getvalue()


def subject(folder, phase="sparse", **changes):
  configuration = {"rounds": 4, "model": "digits_cnn", "targets": ["mcu"]}
  given: dict[str, Any] = {
    "configuration": configuration,
    "candidates": CANDIDATES,
    "partition": picture,
  }
  return base.Subject(folder, phase, **(given | changes))
