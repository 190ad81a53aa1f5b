"""What is named is imported when it is called, and not before."""

import subprocess
import sys

import pytest

from fedtiny_tff import plugins
from tests.pipelines import support


def test_a_call_is_passed_on():
  assert plugins.Deferred("math:hypot")(3.0, 4.0) == 5.0
  assert plugins.Deferred("builtins:dict")(a=1) == {"a": 1}
  assert plugins.Deferred("math:pi").load() == pytest.approx(3.14159, abs=1e-5)


@pytest.mark.parametrize("place", ["", "math", "math:", ":pi"])
def test_what_is_no_place_is_refused(place):
  with pytest.raises(ValueError, match=r"package\.module:name"):
    plugins.Deferred(place)


def test_what_is_not_there_is_found_at_the_call():
  with pytest.raises(ModuleNotFoundError):
    plugins.Deferred("no_such_module:name")()
  with pytest.raises(AttributeError):
    plugins.Deferred("math:no_such_name")()


_IMPORTS = """
import sys
from pipelines.settings import choices
assert choices.CLOSED["strategy"] and choices.OPEN["model"] and choices.LISTS["targets"]
heavy = {"tensorflow", "tensorflow_federated", "keras", "jax", "sklearn"}
print(sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""


def test_names_of_plug_ins_need_no_tensorflow():
  ended = subprocess.run(
    [sys.executable, "-c", _IMPORTS],
    cwd=support.ROOT, capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert ended.stdout == "[]\n"
