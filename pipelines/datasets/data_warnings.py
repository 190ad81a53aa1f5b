"""What a person should know of a dataset before training on it, in sentences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedtiny_tff.data.examples import SPLITS, TEST, TRAIN
from fedtiny_tff.data.sources import texts

_NAMED = 5
# A class this many times as frequent as another one is worth a word.
_NOTABLE_IMBALANCE = 10
_SPLIT_NAMES = {TRAIN: "training", TEST: "test"}


def of(document: Mapping[str, Any]) -> list[str]:
  """Returns the warnings that belong to a document of `data_inspection.inspect`."""
  return [
    *_of_records(document),
    *_of_classes(document),
    *_of_features(document),
    *_of_duplicates(document),
    *_of_clients(document),
  ]


def told(count: int, noun: str, one: str, several: str) -> str:
  """Returns a sentence of some things, as "1 client holds" or "2,000 clients hold".

  Args:
    count: How many.
    noun: What one of them is called; ends in s where there are several.
    one: What is said of one.
    several: What is said of several.
  """
  return f"1 {noun} {one}" if count == 1 else f"{count:,} {noun}s {several}"


def share(value: float) -> str:
  """Returns a share in percent; what is not nothing is not called 0."""
  return "under 0.01 %" if 0 < value < 1e-4 else f"{100 * value:.2f} %"


def _of_records(document: Mapping[str, Any]) -> Iterable[str]:
  found = document["rejected"]
  if not found["count"]:
    return
  said = "cannot be used; a run needs --on_bad_record=skip to leave {} out"
  if found["by_split"] is None:
    said = "could not be used when the folder was written"
  yield told(found["count"], "record", said.format("it"), said.format("them"))


def _of_classes(document: Mapping[str, Any]) -> Iterable[str]:
  splits, classes = document["splits"], document["dataset"]["classes"]
  if not splits[TEST]["examples"]:
    yield "the test split is empty: no model can be judged on it"
  for split in SPLITS:
    missing = document["missing_classes"][split]
    if missing and splits[split]["examples"]:
      yield f"{_classes(missing, 'has', 'have')} no {_SPLIT_NAMES[split]} example"
  counts = splits[TRAIN]["examples_by_class"]
  present = {name: n for name, n in zip(classes, counts, strict=True) if n}
  most = max(present, key=present.__getitem__)
  least = min(present, key=present.__getitem__)
  if present[most] >= _NOTABLE_IMBALANCE * present[least]:
    yield (
      f"class {texts.value(most)} has {present[most] / present[least]:,.0f} times the "
      f"training examples of class {texts.value(least)}"
    )
  public = document["public"]["examples_by_class"]
  anomalies = document["dataset"]["anomaly_classes"]
  without = [
    name
    for name, samples in zip(classes, public, strict=True)
    if not samples and name in present and name not in anomalies
  ]
  if without and any(public):
    yield f"{_classes(without, 'has', 'have')} no public sample on the server"


def _classes(names: Sequence[str], one: str, several: str) -> str:
  """Names classes, the first of many, and what is said of them."""
  named = ", ".join(texts.value(name) for name in names[:_NAMED])
  more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
  if len(names) == 1:
    return f"class {named} {one}"
  return f"classes {named}{more} {several}"


def _of_features(document: Mapping[str, Any]) -> Iterable[str]:
  largest = document["dataset"]["largest_value_expected"]
  for split in SPLITS:
    found = document["splits"][split]["features"]
    noun = f"{_SPLIT_NAMES[split]} example"
    for key, said in (
      ("examples_not_finite", "NaN or an infinite value"),
      ("examples_beyond_expected", f"a value beyond {largest:,.10g}: check the units"),
      ("constant_examples", "the same value throughout"),
    ):
      if found[key]:
        yield told(found[key], noun, f"has {said}", f"have {said}")
  constant = document["splits"][TRAIN]["features"]["constant_channels"]
  if constant:
    named = ", ".join(map(str, constant[:_NAMED]))
    more = f" and {len(constant) - _NAMED:,} more" if len(constant) > _NAMED else ""
    channels = "channels" if len(constant) > 1 else "channel"
    yield (
      f"the value of {channels} {named}{more} (from 0) is the same in all training "
      "examples"
    )


def _of_duplicates(document: Mapping[str, Any]) -> Iterable[str]:
  train = document["splits"][TRAIN]["duplicates"]
  test = document["splits"][TEST]["duplicates"]
  if count := train["in_other_split"]:
    in_test = f"({share(train['in_other_split_share'])})"
    yield told(
      count,
      "training example",
      f"{in_test} is in the test split too: runs leave it out",
      f"{in_test} are in the test split too: runs leave them out",
    )
  if count := train["within"]:
    within = f"({share(train['within_share'])})"
    yield told(
      count, "training example", f"{within} repeats another", f"{within} repeat others"
    )
  if count := train["with_another_label"]:
    said = "the features of an earlier one, but another label"
    yield told(count, "training example", f"has {said}", f"have {said}")
  if count := test["within"]:
    yield told(count, "test example", "repeats another", "repeat others")


def _of_clients(document: Mapping[str, Any]) -> Iterable[str]:
  clients, dataset = document["clients"], document["dataset"]
  said = [
    ("of_one_example", "holds a single example", "hold a single example"),
    ("without_held_out_examples", "holds nothing out", "hold nothing out"),
    ("without_test_examples", "has no test example", "have no test example"),
  ]
  if len(dataset["classes"]) - len(dataset["anomaly_classes"]) > 1:
    said.insert(0, ("of_one_class", "holds a single class", "hold a single class"))
  for key, one, several in said:
    if clients[key]:
      yield told(clients[key], "client", one, several)
