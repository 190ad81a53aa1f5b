"""What the server writes for devices, and what it reads of them."""

import os

import pytest

from fedtiny_tff.devices.device_tasks import TRAIN, DeviceTask, TaskMessage, read_task
from fedtiny_tff.errors import InputError
from pipelines.devices.device_folder import DeviceFolder

ANSWER = "devices/000001/update-000002.safetensors"


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  folder = DeviceFolder(str(tmp_path / "exchange"))
  folder.begin("a plan", b"a model")
  (tmp_path / "exchange/devices/000001").mkdir(parents=True)
  return folder


def test_devices_find_plan_model_messages_and_task(folder, tmp_path):
  task = DeviceTask("digest", TRAIN, (1,), (TaskMessage(2, "ff"),), None)
  folder.publish(task, {2: b"sent"})
  found = tmp_path / "exchange"
  assert (found / "client_plan.json").read_text() == "a plan"
  assert (found / "model.tflite").read_bytes() == b"a model"
  assert (found / "server/round-000002.safetensors").read_bytes() == b"sent"
  assert read_task((found / "task.json").read_text(), "task") == task


def test_a_run_goes_on_with_its_own_folder_alone(folder):
  folder.begin("a plan", b"a model")
  with pytest.raises(InputError, match="plan of another run; name an"):
    folder.begin("another", b"a model")


def test_a_run_that_begins_takes_no_others_folder(folder, tmp_path):
  DeviceFolder(str(tmp_path / "new")).check_new()
  with pytest.raises(InputError, match="plan of another run; name an empty"):
    folder.check_new()


def test_answers_of_another_run_are_not_taken(tmp_path):
  (tmp_path / "devices").mkdir()
  with pytest.raises(InputError, match="holds answers of another run; name an empty"):
    DeviceFolder(str(tmp_path)).begin("a plan", b"a model")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match="choose another folder"):
    DeviceFolder(str(tmp_path / "file")).begin("plan", b"")


def test_answers_are_read_and_removed(folder, tmp_path):
  assert folder.read(ANSWER, 10) is None
  (tmp_path / "exchange" / ANSWER).write_bytes(b"0123456789")
  assert folder.read(ANSWER, 10) == b"0123456789"
  # One byte more says that it is too long.
  assert folder.read(ANSWER, 4) == b"01234"
  folder.remove(ANSWER)
  folder.remove(ANSWER)
  assert folder.read(ANSWER, 10) is None


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_nothing_but_plain_files_is_read(folder, tmp_path, kind):
  path = tmp_path / "exchange" / ANSWER
  if kind == "link":
    (tmp_path / "secret").write_bytes(b"secret")
    path.symlink_to(tmp_path / "secret")
  elif kind == "pipe":
    os.mkfifo(path)
  else:
    path.mkdir()
  assert folder.read(ANSWER, 100) is None
