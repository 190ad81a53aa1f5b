"""Durable states of a run: written whole, checked when read, a few kept.

A state file is the SHA-256 of its body (32 bytes) and the body, a NumPy archive
of plain arrays (nothing pickled) with one JSON document under `document`.
"""

import asyncio
import hashlib
import io
import json
import logging
import pathlib
import re
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import tensorflow_federated as tff

from pipelines.apps import damage, files

_KEEP = 2
_NAME = re.compile(r"^round_(\d{6,})\.state$")
_DIGEST_BYTES = 32


class RunState(NamedTuple):
  """What a run needs to go on.

  Attributes:
    arrays: Weights, mask and what the strategy remembers, by name; or references to
      values of TFF's runtime.
    document: Anything that JSON holds exactly: metrics, events.
  """

  arrays: dict[str, Any]
  document: dict[str, Any]


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


class CheckedStateManager(tff.program.ProgramStateManager[RunState]):
  """A `tff.program.ProgramStateManager` that notices damage.

  TFF's own `FileProgramStateManager` writes SavedModels in place and without a
  checksum. Versions are rounds finished; the last two are kept.
  """

  def __init__(self, folder: Union[str, pathlib.Path]):
    """Names the folder; it is made with the first state."""
    self._folder = pathlib.Path(folder)

  def _path(self, version: int) -> pathlib.Path:
    return self._folder / f"round_{version:06d}.state"

  def _versions(self) -> list[int]:
    if not self._folder.is_dir():
      return []
    found = (_NAME.match(path.name) for path in self._folder.iterdir())
    return sorted(int(match.group(1)) for match in found if match)

  def _read(self, version: int) -> Optional[RunState]:
    """Reads a whole state; warns of a damaged one."""
    path = self._path(version)
    try:
      return RunState(*decode(path.read_bytes()))
    # Bytes may be no such archive, though their checksum is right.
    except damage.ARCHIVE as error:
      logging.warning("%s is damaged (%s); the state before it is used", path, error)
      return None

  async def get_versions(self) -> Optional[list[int]]:
    """Returns the versions that are kept, oldest first, or None; see TFF's base."""
    return self._versions() or None

  async def load(self, version: int, structure: Any = None) -> RunState:
    """Returns a state, its arrays as NumPy's.

    Args:
      version: Rounds finished.
      structure: Not needed: arrays have names.

    Raises:
      ProgramStateNotFoundError: When there is none of that version, or it is damaged.
    """
    del structure
    state = self._read(version) if version in self._versions() else None
    if state is None:
      raise tff.program.ProgramStateNotFoundError(version)
    return state

  async def load_latest(self, structure: Any = None) -> tuple[Optional[RunState], int]:
    """Returns the newest whole state and its version, or (None, 0).

    A damaged one is passed over with a warning.
    """
    del structure
    for version in reversed(self._versions()):
      state = self._read(version)
      if state is not None:
        return state, version
    return None, 0

  async def save(self, program_state: RunState, version: int) -> None:
    """Writes a state, synced to the disk, and forgets older ones, and any after it.

    Who saves an earlier version than there is went back before damaged ones: they would
    count as the newest.

    Args:
      program_state: What to write; references are resolved first.
      version: Rounds finished.

    Raises:
      ProgramStateExistsError: When there is a whole state of this version.
    """
    path = self._path(version)
    if version in self._versions() and self._read(version) is not None:
      raise tff.program.ProgramStateExistsError(version=version, path=str(path))
    arrays = await tff.program.materialize_value(program_state.arrays)
    files.write_bytes(path, encode(arrays, program_state.document))
    versions = self._versions()
    kept = [each for each in versions if each <= version][-_KEEP:]
    for other in set(versions).difference(kept):
      self._path(other).unlink()

  async def remove_all(self) -> None:
    """Removes every state; see TFF's base."""
    for version in self._versions():
      self._path(version).unlink()


class StateStore:
  """States of one phase of a run, for code that waits for each of them."""

  def __init__(self, folder: pathlib.Path):
    """Names the folder; it is made with the first state."""
    self._manager = CheckedStateManager(folder)

  def save(
    self, rounds: int, arrays: dict[str, np.ndarray], document: dict[str, Any]
  ) -> None:
    """Writes the state after `rounds` rounds; see `CheckedStateManager.save`."""
    asyncio.run(self._manager.save(RunState(arrays, document), rounds))

  def load_latest(
    self,
  ) -> Optional[tuple[int, dict[str, np.ndarray], dict[str, Any]]]:
    """Reads the newest whole state.

    Returns:
      Rounds finished, arrays, document; None when there is no whole state.
    """
    state, rounds = asyncio.run(self._manager.load_latest())
    return None if state is None else (rounds, *state)
