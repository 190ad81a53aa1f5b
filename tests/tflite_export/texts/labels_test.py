from tflite_export.texts.labels import clean_labels


def test_names_are_one_line_each():
  assert clean_labels(["a\nb", "  c   d ", "é"]) == ("a b", "c d", "é")


def test_blank_names_are_numbered():
  assert clean_labels(["a", "", "\n", "class 3"]) == (
    "a",
    "class 1",
    "class 2",
    "class 3",
  )
