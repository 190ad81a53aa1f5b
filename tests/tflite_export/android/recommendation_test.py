"""Which file is shipped, by what it is worth, and what is told with it."""

import pytest

from tflite_export.android import recommendation
from tflite_export.artifacts import Artifact

_SIZES = {"fp32_sparse": 300, "fp16_sparse": 200, "int8_sparse": 100}


def _row(format="fp32_sparse", size=300, **changes):
  figures = {
    "accuracy": 0.9,
    "class_accuracy": None,
    "auc": None,
    "argmax_agreement": None,
  }
  return Artifact(
    path=f"android/{format}.tflite", target="android", format=format, bytes=size,
    dense_bytes=400, density=0.1, max_abs_error=0.0, runtime="toy 1", arena_bytes=None,
    **(figures | changes),
  )  # fmt: skip


def _chosen(rows, eligible=()):
  return recommendation.recommended(
    rows, {row.path: row.format in eligible for row in rows}
  )


@pytest.mark.parametrize(
  ("eligible", "accuracy", "chosen"),
  [
    # Smallest of those run sparse.
    (("fp32_sparse", "fp16_sparse"), {}, "fp16_sparse"),
    # It would lose more than a point.
    (("fp32_sparse", "fp16_sparse"), {"fp16_sparse": 0.88}, "fp32_sparse"),
    # Exactly a point less is allowed.
    (("fp16_sparse",), {"fp16_sparse": 0.89}, "fp16_sparse"),
    ((), {}, "int8_sparse"),
    ((), {"int8_sparse": 0.5}, "fp16_sparse"),
    (("int8_sparse",), {"int8_sparse": None}, "fp16_sparse"),
  ],
)
def test_the_smallest_good_file_is_recommended(eligible, accuracy, chosen):
  rows = [
    _row(name, size, accuracy=accuracy.get(name, 0.9)) for name, size in _SIZES.items()
  ]
  found, why = _chosen(rows, eligible)
  assert found.format == chosen
  assert ("run it sparse" in why) == (chosen in eligible)
  assert "within a point of the best accuracy, 90.00 %" in why


@pytest.mark.parametrize(
  ("figure", "told"),
  [("auc", "AUC, 0.9000"), ("argmax_agreement", "the model, 90.00 %")],
)
def test_without_accuracy_another_figure_decides(figure, told):
  rows = [
    _row(name, size, accuracy=None, **{figure: 0.5 if name == "int8_sparse" else 0.9})
    for name, size in _SIZES.items()
  ]
  found, why = _chosen(rows)
  assert found.format == "fp16_sparse"
  assert (
    f"of 2 files within a point of the best {recommendation._FIGURES[figure]}" in why
  )
  assert told in why


def test_where_nothing_is_known_the_smallest_is_taken():
  rows = [_row(name, size, accuracy=None) for name, size in _SIZES.items()]
  found, why = _chosen(rows)
  assert found.format == "int8_sparse"
  assert "not known" in why
  assert recommendation.shown_quality(found) == ""


def test_of_equal_files_the_dense_name_is_taken():
  found, _ = _chosen([_row("int8_sparse", 9), _row("int8_dense", 9)])
  assert found.format == "int8_dense"


def test_quality_is_told_by_the_most_telling_figure():
  assert recommendation.shown_quality(_row(auc=0.7)) == "accuracy 90.00 %"
  assert recommendation.shown_quality(_row(accuracy=None, auc=0.7)) == "AUC 0.7000"


@pytest.mark.parametrize(
  ("dense", "told"),
  [
    (None, []),
    (0.93, []),
    (
      0.95,
      [
        "accuracy is 5.00 points below that of the dense model trained as long, 95.00 %"
      ],
    ),
  ],
)
def test_a_loss_against_the_dense_model_is_told(dense, told):
  assert recommendation.warnings(_row(), ("a",), dense) == told


def test_a_loss_of_area_is_told():
  (told,) = recommendation.warnings(_row(accuracy=None, auc=0.8), (), 0.9)
  assert told.startswith("AUC is 0.1000 below")


def test_classes_that_are_never_right_are_named():
  shares = (1.0, 0.0, None, *[0.0] * 6)
  names = ("ant", "cat\x1b[2J", "cow", *"defghi")
  (told,) = recommendation.warnings(_row(class_accuracy=shares), names, None)
  assert told == (
    "no example of these classes is recognised (0 %): cat�[2J, d, e, f, g and 2 more"
  )
