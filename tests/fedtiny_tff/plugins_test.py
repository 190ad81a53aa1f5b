"""What is named is imported when it is called, and not before."""

import subprocess
import sys

import pytest

from fedtiny_tff import plugins
from fedtiny_tff.errors import InputError
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


def test_entry_points_of_a_users_own(tmp_path, monkeypatch):
  assert plugins.is_entry_point("my.package:name")
  assert not any(
    map(plugins.is_entry_point, ["name", "a:b:c", "a-b:c", ":c", "a:", "1a:b"])
  )
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.chdir(tmp_path)
  for module, text in (
    ("plug_ins", "def made(): return 3\nvalue = 3\n"),
    ("lazy", "def __getattr__(name): raise RuntimeError(f'no {name}')"),
    ("program", "import sys\nsys.exit(0)"),
    ("importer", "import not_installed"),
  ):
    (tmp_path / f"own_{module}.py").write_text(text)
  assert plugins.load_entry_point("model", "own_plug_ins:made")() == 3
  for name, said in (
    ("own_plug_ins:value", "has no function or class 'value'; name one that it has"),
    ("own_plug_ins:gone", "has no function or class 'gone'; name one that it has"),
    ("own_lazy:f", "RuntimeError: no f; mend your code"),
    ("own_program:f", "SystemExit: 0; mend your code"),
    ("own_importer:f", "No module named 'not_installed'; mend your code"),
    (
      "no_such_plug_in:f",
      "there is no module no_such_plug_in, neither in .* its name$",
    ),
    ("no_such.plug_in:f", "there is no module no_such, neither in"),
    ("own_plug_ins.py:f", "there is no module own_plug_ins.py, neither in"),
  ):
    with pytest.raises(InputError, match=f"^model {name}: .*{said}"):
      plugins.load_entry_point("model", name)


def test_an_error_of_a_users_code_is_one_line():
  with pytest.raises(InputError) as caught:
    plugins.call_own("model", "a:b", lambda: int("1\n2"))
  said = (
    "model a:b: ValueError: invalid literal for int() with base 10: '1\\n2'; mend your"
  )
  assert str(caught.value) == f"{said} code"


_IMPORTS = """
import sys
from pipelines.settings import choices
assert choices.OPEN["strategy"] and choices.OPEN["model"] and choices.LISTS["targets"]
heavy = {"tensorflow", "tensorflow_federated", "keras", "jax", "sklearn"}
print(sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""


def test_names_of_plug_ins_need_no_tensorflow():
  ended = subprocess.run(
    [sys.executable, "-c", _IMPORTS],
    cwd=support.ROOT, capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert ended.stdout == "[]\n"
