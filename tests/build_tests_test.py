"""How large a test is to Bazel, and which tags it gets."""

import pytest

from tools import build_tests

_SLOW = "@pytest.mark.slow\ndef test_a():\n  pass\n"
_QUICK = "def test_b():\n  pass\n"


@pytest.mark.parametrize(
  ("source", "only_slow"),
  [
    (_SLOW, True),
    (_QUICK, False),
    (_SLOW + _QUICK, False),
    ("", False),
    (f"pytestmark = pytest.mark.arm64\n{_QUICK}", True),
    (f"pytestmark = [\n  pytest.mark.xfail,\n  pytest.mark.slow,\n]\n{_QUICK}", True),
    (f"pytestmark = pytest.mark.usefixtures('slow')\n{_QUICK}", False),
    ("class TestA:\n  @pytest.mark.slow\n  def test_a(self):\n    pass\n", True),
  ],
)
def test_only_a_file_without_quick_tests_is_manual(source, only_slow):
  assert build_tests.only_slow(source) == only_slow
  assert build_tests.tags(source, []) == (["manual"] if only_slow else [])


@pytest.mark.parametrize(
  ("source", "labels", "size"),
  [
    (_QUICK, ["@pypi//numpy"], "small"),
    (_QUICK, ["@pypi//tensorflow"], "medium"),
    (_QUICK, ["@pypi//tensorflow", "@pypi//tensorflow_federated"], "large"),
    (_QUICK, ["//pipelines"], "large"),
    (_SLOW, ["@pypi//numpy"], "enormous"),
  ],
)
def test_size_is_what_its_imports_take(source, labels, size):
  assert build_tests.size(source, labels) == size


@pytest.mark.parametrize(
  ("source", "support"),
  [("ROOT = __file__\n", []), ("", ["", "ROOT = __file__\n"])],
)
def test_who_looks_for_the_checkout_sees_it(source, support):
  assert build_tests.tags(source, support) == ["external", "local"]
