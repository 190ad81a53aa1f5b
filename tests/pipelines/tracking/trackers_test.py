"""Trackers hear everything once, and cannot end a run."""

import io
import json

import pytest
import rich.console
import tensorflow as tf

from fedtiny_tff.errors import InputError
from pipelines.apps import interruption, redaction
from pipelines.apps.progress import Progress
from pipelines.tracking import jsonl_tracker, registry, tensorboard_tracker, trackers
from tests.pipelines import support
from tests.pipelines.tracking import told


class _Toy:
  """Writes down what it is told; fails in calls of the numbers given."""

  def __init__(self, log, failures=()):
    self._log = log
    self._failures = set(failures)

  def _count(self):
    self._log["calls"] += 1
    if self._log["calls"] in self._log["failures"]:
      raise ConnectionError(f"https://me:pw@host/x\nkey {told.SECRET}")

  def begin(self, subject):
    self._log["steps"] = []
    self._count()

  def tell(self, rounds):
    self._count()
    self._log["steps"] += [each.number for each in rounds]

  def finish(self, is_done):
    self._log["finished"].append(is_done)


def _world(tmp_path, names=("toy",), failures=()):
  logs = {
    name: {"calls": 0, "failures": set(failures), "steps": [], "finished": []}
    for name in names
  }
  console = rich.console.Console(file=io.StringIO(), soft_wrap=True)
  made = trackers.Trackers(
    names, told.subject(tmp_path), Progress(console), lambda name: _Toy(logs[name])
  )
  return made, logs, console.file


def test_rounds_are_told_as_they_come(tmp_path):
  made, logs, said = _world(tmp_path)
  for count in (0, 1, 2, 4):
    made.tell(told.rounds(count))
  made.finish(told.rounds(4), True)
  assert logs["toy"] == {
    "calls": 5, "failures": set(), "steps": [0, 1, 2, 3], "finished": [True],
  }  # fmt: skip
  assert said.getvalue() == ""


def test_one_that_fails_is_said_once_and_catches_up(tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_API_KEY", told.SECRET)
  # Calls 1 and 2 begin and tell; it is gone for three of them.
  made, logs, said = _world(tmp_path, failures=(3, 4, 5))
  seen = []
  for count in range(1, 20):
    made.tell(told.rounds(count))
    seen.append(len(logs["toy"]["steps"]))
  # Fails at the second round; tried again after 1, 2 and 4 rounds more.
  assert seen[:3] == [1, 1, 1]
  assert seen[-1] == 19
  assert logs["toy"]["steps"] == list(range(19))
  warning, back = said.getvalue().splitlines()
  assert (
    "warning: --trackers=toy: ConnectionError: https://***@host/x key ***; " in warning
  )
  assert told.SECRET not in warning
  assert "--trackers=toy: works again, nothing is missing" in back


def test_one_that_is_back_at_the_end_misses_nothing(tmp_path):
  made, logs, _ = _world(tmp_path, failures=(3,))
  made.tell(told.rounds(1))
  made.tell(told.rounds(2))
  made.finish(told.rounds(2), True)
  assert logs["toy"]["steps"] == [0, 1]
  # The first was let go of when it failed.
  assert logs["toy"]["finished"] == [False, True]


def test_others_do_not_notice(tmp_path):
  made, logs, _ = _world(tmp_path, names=("one", "two"))
  logs["one"]["failures"] = set(range(100))
  for count in range(1, 6):
    made.tell(told.rounds(count))
  made.finish(told.rounds(5), True)
  assert logs["two"]["steps"] == [0, 1, 2, 3, 4]
  # Attempts become rare: at rounds 0, 2 and 5 would be, and once at the end.
  assert logs["one"]["calls"] == 3


def test_one_that_never_works_does_not_stop_the_end(tmp_path):
  made, _, said = _world(tmp_path, failures=range(100))
  made.tell(told.rounds(1))
  made.finish(told.rounds(1), True)
  assert said.getvalue().count("\n") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_failure_of_a_tracker(tmp_path, error):
  made, _, _ = _world(tmp_path)

  def tell(self, rounds):
    raise error

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(_Toy, "tell", tell)
    with pytest.raises(error):
      made.tell(told.rounds(1))


def test_a_signal_that_comes_out_as_another_error_is_one(tmp_path, monkeypatch):
  made, _, _ = _world(tmp_path, failures=(1,))
  monkeypatch.setattr(interruption, "received", KeyboardInterrupt)
  with pytest.raises(KeyboardInterrupt):
    made.tell(told.rounds(1))


# ----------------------------------------------------------------- names


@pytest.mark.parametrize(
  ("names", "said"),
  [
    (["csv"], "must name tensorboard, jsonl, mlflow, wandb, got 'csv'"),
    (["jsonl", "jsonl"], "names 'jsonl' more than once"),
  ],
)
def test_wrong_names_are_refused(names, said):
  with pytest.raises(InputError, match=f"--trackers {said}"):
    support.make_config(trackers=names)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_what_is_not_installed_is_named(monkeypatch, name):
  monkeypatch.setattr(registry.importlib.util, "find_spec", lambda package: None)
  requirement = registry.TRACKERS[name].requirement
  with pytest.raises(
    InputError, match=f"{name} is not installed; install {requirement} as docs"
  ):
    support.make_config(trackers=["jsonl", name])


def test_every_tracker_can_be_made_without_its_package():
  for name in registry.TRACKERS:
    tracker = registry.make(name)
    # As after a failure before it began.
    tracker.finish(False)


def test_a_run_is_the_same_with_other_trackers():
  one, other = (support.make_config(trackers=t) for t in ([], ["jsonl"]))
  assert one.configuration() == other.configuration()


# ----------------------------------------------------------------- secrets


@pytest.mark.parametrize(
  ("text", "wanted"),
  [
    ("https://me:pw@host:5000/a", "https://***@host:5000/a"),
    ("https://host/?api_key=abc&x=1", "https://host/?api_key=***&x=1"),
    ('{"token": "abc"}', '{"token": ***}'),
    (f"was {told.SECRET}.", "was ***."),
    ("round 3 of 4, key figures: loss 0.5", "round 3 of 4, key figures: loss 0.5"),
    ("user@host has mail", "user@host has mail"),
  ],
)
def test_secrets_are_hidden(monkeypatch, text, wanted):
  monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", told.SECRET)
  monkeypatch.setenv("SHORT_KEY", "round")
  assert redaction.redacted(text) == wanted


# ----------------------------------------------------------------- metrics.jsonl


def _jsonl(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_a_round(tmp_path):
  tracker = jsonl_tracker.make()
  tracker.begin(told.subject(tmp_path))
  tracker.tell(told.rounds(1))
  tracker.tell(told.rounds(2)[1:])
  first, second = _jsonl(tmp_path / "metrics.jsonl")
  assert first == {
    **told.row(0), "eval_loss": None, "eval_accuracy": None, "adjusted_block": None,
    "mask_change": None,
  }  # fmt: skip
  assert second["eval_loss"] == 1.5
  assert second["mask_change"] == {
    "block": 0, "layers": [{"name": "conv", "dropped": 3, "grown": 3}],
  }  # fmt: skip


def test_what_a_kill_left_is_replaced(tmp_path):
  path = tmp_path / "metrics_dense.jsonl"
  path.write_text('{"round": 0}\n{"round": 1}\n{"rou')
  tracker = jsonl_tracker.make()
  tracker.begin(told.subject(tmp_path, "dense"))
  tracker.tell(told.rounds(2))
  tracker.tell(told.rounds(3)[2:])
  assert [line["round"] for line in _jsonl(path)] == [0, 1, 2]
  assert not (tmp_path / "metrics.jsonl").exists()


# ----------------------------------------------------------------- TensorBoard


def _events(folder):
  found: dict[str, list] = {}
  for path in sorted(folder.glob("events.*")):
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      for value in event.summary.value:
        array = tf.make_ndarray(value.tensor)
        found.setdefault(value.tag, []).append((event.step, array))
  return found


def _curve(events, tag):
  return [(step, float(value)) for step, value in events[tag]]


@pytest.fixture(name="events", scope="module")
def fixture_events(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  tracker = tensorboard_tracker.make()
  tracker.begin(told.subject(folder))
  tracker.tell(told.rounds(1))
  tracker.tell(told.rounds(3)[1:])
  tracker.finish(True)
  return _events(folder / "tensorboard")


def test_curves_are_drawn(events):
  assert _curve(events, "train_loss") == [(0, 2.25), (1, 1.25), (2, 0.25)]
  assert _curve(events, "eval_accuracy") == [(1, 0.75)]
  assert _curve(events, "adjusted_block") == [(1, 0.0)]
  assert "round" not in events


def test_the_masks_change_is_drawn(events):
  assert _curve(events, "mask_change/dropped/conv") == [(1, 3.0)]
  assert _curve(events, "mask_change/grown/conv") == [(1, 3.0)]
  assert "mask_change/grown/logits" not in events


def test_candidates_are_drawn(events):
  assert _curve(events, "candidate_loss") == [(0, 2.5), (1, 2.0)]
  assert _curve(events, "candidate_accuracy") == [(0, 0.25)]


def test_densities_are_histograms_where_they_may_change(events):
  assert [step for step, _ in events["layer_densities"]] == [0, 1]
  # Rows of left, right, count.
  _, buckets = events["layer_densities"][0]
  assert buckets[:, 2].sum() == 2.0
  assert buckets[0, 0] == 0.25
  assert buckets[-1, 1] == 0.5


def test_the_partition_is_an_image(events):
  [(step, value)] = events["label_by_client"]
  # Width and height as text, then PNG files.
  width, height, png = value.tolist()
  assert (step, width, height) == (0, b"6", b"4")
  pixels = tf.io.decode_png(png).numpy()
  assert pixels.shape == (4, 6, 3)
  assert pixels[0, 0].tolist() == [255, 0, 0]


def test_a_continued_run_starts_tensorboard_over(tmp_path):
  for count in (3, 2):
    # The newest state was damaged: round 2 comes again.
    tracker = tensorboard_tracker.make()
    tracker.begin(told.subject(tmp_path))
    tracker.tell(told.rounds(count))
  tracker.tell(told.rounds(3)[2:])
  events = _events(tmp_path / "tensorboard")
  assert [step for step, _ in events["train_loss"]] == [0, 1, 2]
  assert len(events["label_by_client"]) == 1


def test_accuracies_of_an_autoencoder_are_not_drawn(tmp_path):
  tracker = tensorboard_tracker.make()
  tracker.begin(told.subject(tmp_path, partition=lambda: None, candidates=()))
  tracker.tell([told.round_of(0, train_accuracy="")])
  tags = set(_events(tmp_path / "tensorboard"))
  assert "train_loss" in tags
  assert not {tag for tag in tags if "accuracy" in tag or "label" in tag}


def test_the_dense_run_has_its_own_folder(tmp_path):
  folders = [told.subject(tmp_path, phase) for phase in ("dense", "sparse")]
  for subject in folders:
    tracker = tensorboard_tracker.make()
    tracker.begin(subject)
    tracker.tell(told.rounds(1))
    tracker.finish(True)
  assert len(_events(tmp_path / "tensorboard" / "dense")["train_loss"]) == 1
