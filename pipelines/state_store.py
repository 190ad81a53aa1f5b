"""Durable states of a run: written whole, checked when read, a few kept.

A state file is the SHA-256 of its body (32 bytes) and the body, a NumPy archive
of plain arrays (nothing pickled) with one JSON document under `document`.
"""

import hashlib
import io
import json
import logging
import pathlib
import re
from typing import Any, Optional

import numpy as np

from pipelines import files

_KEEP = 2
_NAME = re.compile(r"^round_(\d{6,})\.state$")
_DIGEST_BYTES = 32


def encode(arrays: dict[str, np.ndarray], document: dict[str, Any]) -> bytes:
  """Encodes a state as bytes."""
  body = io.BytesIO()
  text = np.frombuffer(json.dumps(document).encode(), np.uint8)
  np.savez(body, document=text, **arrays)
  content = body.getvalue()
  return hashlib.sha256(content).digest() + content


def decode(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Decodes what `encode` made.

  Raises:
    ValueError: When the bytes are truncated or altered.
  """
  digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
  if hashlib.sha256(body).digest() != digest:
    raise ValueError("checksum does not match")
  with np.load(io.BytesIO(body), allow_pickle=False) as archive:
    arrays = {name: archive[name] for name in archive.files}
  return arrays, json.loads(arrays.pop("document").tobytes())


class StateStore:
  """States of one phase of a run, by the number of rounds finished."""

  def __init__(self, folder: pathlib.Path):
    """Names the folder; it is made with the first state."""
    self._folder = folder

  def _versions(self) -> list[tuple[int, pathlib.Path]]:
    if not self._folder.is_dir():
      return []
    found = [(_NAME.match(path.name), path) for path in self._folder.iterdir()]
    return sorted((int(match.group(1)), path) for match, path in found if match)

  def save(
    self, rounds: int, arrays: dict[str, np.ndarray], document: dict[str, Any]
  ) -> None:
    """Writes the state after `rounds` rounds and forgets the oldest."""
    path = self._folder / f"round_{rounds:06d}.state"
    files.write_bytes(path, encode(arrays, document))
    for _, old in self._versions()[:-_KEEP]:
      old.unlink()

  def load_latest(
    self,
  ) -> Optional[tuple[int, dict[str, np.ndarray], dict[str, Any]]]:
    """Reads the newest whole state.

    A damaged one is passed over with a warning.

    Returns:
      Rounds finished, arrays, document; None when there is no whole state.
    """
    for rounds, path in reversed(self._versions()):
      try:
        arrays, document = decode(path.read_bytes())
      except (ValueError, OSError, KeyError) as error:
        logging.warning("%s is damaged (%s); the state before it is used", path, error)
        continue
      return rounds, arrays, document
    return None
