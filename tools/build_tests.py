"""How Bazel is to run a test: its size and tags, read from the sources."""

import ast
from collections.abc import Collection

_SLOW_MARKS = ("pytest.mark.slow", "pytest.mark.arm64")


def size(source: str, labels: Collection[str]) -> str:
  """Returns the size, which to Bazel is also how long the test may take.

  What imports neither TensorFlow nor TFF is small: the import alone takes seconds.

  Args:
    source: The test's source.
    labels: The installed packages and whole packages of ours that it needs, directly
      or through our modules.
  """
  if only_slow(source):
    return "enormous"
  if any(each.startswith("//") or "//tensorflow_federated" in each for each in labels):
    return "large"
  return "medium" if any("//tensorflow" in each for each in labels) else "small"


def tags(source: str, support: Collection[str]) -> list[str]:
  """Returns the tags.

  Args:
    source: The test's source.
    support: The sources of the test modules that it needs.

  Returns:
    "manual": `//...` leaves it out, as no test of it runs quickly. "external" and
    "local": it looks for the checkout around itself, so it must see it and Bazel
    cannot know whether the last result still holds.
  """
  found = ["manual"] if only_slow(source) else []
  if any("__file__" in each for each in (source, *support)):
    found += ["external", "local"]
  return found


def only_slow(source: str) -> bool:
  """Whether every test in a source is marked slow or arm64."""
  if not any(mark in source for mark in _SLOW_MARKS):
    return False
  tree = ast.parse(source)
  whole = [
    node.value
    for node in tree.body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
  ]
  if _marked(whole):
    return True
  tests = [
    node
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
  ]
  return bool(tests) and all(_marked(test.decorator_list) for test in tests)


def _marked(expressions: Collection[ast.expr]) -> bool:
  texts = [ast.unparse(each) for each in expressions]
  return any(mark in text for text in texts for mark in _SLOW_MARKS)
