"""States are read back exactly; damaged ones are passed over."""

import asyncio
import hashlib
import logging

import numpy as np
import pytest
import tensorflow_federated as tff

from pipelines.runs import state_store
from tests.pipelines import support
from tests.pipelines.apps import damage_test

ARRAYS = {
  "prunable": np.array([1.5, -0.0, np.nextafter(np.float32(1), 2)], np.float32),
  "mask": np.array([True, False, True]),
  "empty": np.zeros([0], np.float32),
}
DOCUMENT = {"rows": [{"round": 0, "eval_loss": "", "loss": 0.1}], "events": []}


@pytest.fixture(name="store")
def fixture_store(tmp_path):
  return state_store.StateStore(tmp_path / "state" / "sparse")


def _save(store, *rounds):
  for number in rounds:
    store.save(number, {"value": np.array([number])}, {"round": number})


def _path(tmp_path, rounds):
  return tmp_path / "state" / "sparse" / f"round_{rounds:06d}.state"


def test_a_state_is_read_back_bit_for_bit():
  arrays, document = state_store.decode(state_store.encode(ARRAYS, DOCUMENT))
  assert document == DOCUMENT
  assert arrays.keys() == ARRAYS.keys()
  for name, value in ARRAYS.items():
    assert arrays[name].dtype == value.dtype
    assert arrays[name].tobytes() == value.tobytes()


def test_encoding_repeats():
  once = state_store.encode(ARRAYS, DOCUMENT)
  assert state_store.encode(ARRAYS, DOCUMENT) == once


def test_every_truncation_is_noticed():
  content = state_store.encode({"a": np.arange(3)}, {})
  for length in range(len(content)):
    with pytest.raises(ValueError, match="checksum"):
      state_store.decode(content[:length])


def test_every_flipped_byte_is_noticed():
  content = state_store.encode({"a": np.arange(3)}, {})
  for position in range(len(content)):
    altered = bytearray(content)
    altered[position] ^= 0x01
    with pytest.raises(ValueError, match="checksum"):
      state_store.decode(bytes(altered))


def test_nothing_is_pickled():
  with pytest.raises(ValueError, match="allow_pickle"):
    state_store.decode(state_store.encode({"a": np.array([{}], object)}, {}))


def test_an_archive_of_something_else_is_passed_over(store, tmp_path, caplog):
  _save(store, 1, 2)
  body = damage_test.of("document", b"no array")
  _path(tmp_path, 2).write_bytes(hashlib.sha256(body).digest() + body)
  assert store.load_latest()[0] == 1
  assert "is damaged" in caplog.text


def test_an_empty_store_has_no_state_and_no_folder(store, tmp_path):
  assert store.load_latest() is None
  assert support.snapshot(tmp_path) == {}


def test_the_newest_state_is_read(store):
  _save(store, 1, 2, 10)
  rounds, arrays, document = store.load_latest()
  assert (rounds, arrays["value"].tolist(), document) == (10, [10], {"round": 10})


def test_the_two_newest_are_kept(store, tmp_path):
  _save(store, 1, 2, 3, 4)
  names = sorted(path.name for path in _path(tmp_path, 0).parent.iterdir())
  assert names == ["round_000003.state", "round_000004.state"]


def _truncate(content):
  return content[: len(content) // 2]


def _flip(content):
  middle = len(content) // 2
  return content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [_truncate, _flip, lambda content: b""])
def test_the_one_before_a_damaged_state_is_used(store, tmp_path, caplog, damage):
  _save(store, 1, 2)
  path = _path(tmp_path, 2)
  path.write_bytes(damage(path.read_bytes()))
  with caplog.at_level(logging.WARNING):
    assert store.load_latest()[0] == 1
  [record] = caplog.records
  assert str(path) in record.getMessage()
  assert "damaged" in record.getMessage()


def test_without_a_whole_state_there_is_none(store, tmp_path, caplog):
  _save(store, 1, 2)
  for number in (1, 2):
    _path(tmp_path, number).write_bytes(b"")
  assert store.load_latest() is None
  assert len(caplog.records) == 2


def test_a_whole_state_is_read_without_warning(store, caplog):
  _save(store, 1)
  store.load_latest()
  assert caplog.records == []


def test_other_files_in_the_folder_are_left_alone(store, tmp_path):
  _save(store, 1)
  folder = _path(tmp_path, 0).parent
  for name in (".round_000009.state.abcd1234.partial", "round_9.state", "notes"):
    (folder / name).write_text("")
  _save(store, 2, 3)
  assert store.load_latest()[0] == 3
  assert len(list(folder.iterdir())) == 2 + 3


def test_a_damaged_state_is_replaced_by_the_repeated_round(store, tmp_path):
  _save(store, 1, 2)
  _path(tmp_path, 2).write_bytes(b"")
  _save(store, 2)
  assert store.load_latest()[0] == 2


def test_what_was_written_last_is_kept_beside_damaged_later_states(store, tmp_path):
  _save(store, 199, 200)
  for number in (199, 200):
    path = _path(tmp_path, number)
    path.write_bytes(_truncate(path.read_bytes()))
  assert store.load_latest() is None
  _save(store, 1)
  assert store.load_latest()[0] == 1
  _save(store, 2, 3)
  names = sorted(path.name for path in _path(tmp_path, 0).parent.iterdir())
  assert names == ["round_000002.state", "round_000003.state"]


class TestManager:
  """The same states, by TFF's interface."""

  @pytest.fixture(name="manager")
  def fixture_manager(self, tmp_path):
    return state_store.CheckedStateManager(tmp_path / "states")

  def test_is_one_of_tff(self, manager):
    assert isinstance(manager, tff.program.ProgramStateManager)

  def test_saves_what_it_loads(self, manager):
    async def work():
      assert await manager.get_versions() is None
      assert await manager.load_latest(None) == (None, 0)
      for version in (1, 2, 3):
        state = state_store.RunState({"value": np.array([version])}, {"of": version})
        await manager.save(state, version)
      assert await manager.get_versions() == [2, 3]
      loaded = await manager.load(2, None)
      latest, version = await manager.load_latest(None)
      assert (loaded.arrays["value"].tolist(), loaded.document) == ([2], {"of": 2})
      assert (latest.arrays["value"].tolist(), version) == ([3], 3)
      await manager.remove_all()
      assert await manager.get_versions() is None

    asyncio.run(work())

  def test_resolves_references(self, manager):
    class Reference(tff.program.MaterializableValueReference):
      @property
      def type_signature(self):
        return tff.TensorType(np.float32, (2,))

      async def get_value(self):
        return np.array([1.5, 2.5], np.float32)

    async def work():
      await manager.save(state_store.RunState({"value": Reference()}, {}), 1)
      return await manager.load(1)

    assert asyncio.run(work()).arrays["value"].tolist() == [1.5, 2.5]

  def test_what_is_not_there_is_not_found(self, manager, tmp_path):
    state = state_store.RunState({"value": np.zeros(3)}, {})
    asyncio.run(manager.save(state, 4))
    with pytest.raises(tff.program.ProgramStateNotFoundError):
      asyncio.run(manager.load(3))
    (tmp_path / "states" / "round_000004.state").write_bytes(b"half")
    with pytest.raises(tff.program.ProgramStateNotFoundError):
      asyncio.run(manager.load(4))

  def test_a_whole_state_is_not_written_over(self, manager, tmp_path):
    state = state_store.RunState({"value": np.zeros(3)}, {})
    asyncio.run(manager.save(state, 4))
    with pytest.raises(tff.program.ProgramStateExistsError):
      asyncio.run(manager.save(state, 4))
    (tmp_path / "states" / "round_000004.state").write_bytes(b"half")
    asyncio.run(manager.save(state, 4))
    assert asyncio.run(manager.load(4)).arrays["value"].tolist() == [0, 0, 0]
