"""The program of docs/python_api.md runs as it stands there, and names what there is."""

import re

import pytest
import tensorflow_federated as tff

import fedtiny_tff
import tflite_export
from fedtiny_tff.federated import process_types
from fedtiny_tff.models import registry
from fedtiny_tff.strategies import registry as strategies
from fedtiny_tff.tasks import CLASSIFY
from tests.pipelines import support

_PAGE = (support.ROOT / "docs" / "python_api.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```python\n(.*?)^```$", _PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_names_what_there_is():
  for package in (fedtiny_tff, tflite_export):
    used = set(re.findall(rf"\b{package.__name__}\.(\w+)", _PAGE))
    assert used <= set(package.NAMES)
  assert {"build_fedtiny", "select_candidate"} <= set(fedtiny_tff.NAMES)
  assert '"digits_cnn"' in _PAGE
  assert "digits_cnn" in registry.MODELS
  for name in re.findall(r"strategy=\"(\w+)\"", _PAGE):
    assert name in strategies.STRATEGIES


def test_the_page_names_every_metric():
  names = set(re.findall(r"(\w+)=", str(process_types.metrics_type(CLASSIFY, 2))))
  assert len(names) > 10
  for name in names:
    assert re.search(rf"[`\"]{name}[`\"]", _PAGE), name


def test_every_block_is_a_program():
  for block in _BLOCKS:
    compile(block, "python_api.md", "exec")


@pytest.mark.slow
def test_the_program_runs(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  names = {"__name__": "__main__"}
  default = tff.framework.get_context_stack().current
  # TFF's own worker would outlive the tests: it is tried in
  # tests/fedtiny_tff/federated/runtimes/execution_test.py.
  monkeypatch.setattr(
    tff.backends.native, "set_sync_local_cpp_execution_context", lambda: None
  )
  try:
    for block in _BLOCKS:
      exec(compile(block, "python_api.md", "exec"), names)
  finally:
    fedtiny_tff.set_local_execution_context().close()
    tff.framework.set_default_context(default)
  assert (tmp_path / "export" / "android" / "fp32_sparse.tflite").stat().st_size > 0
  assert (tmp_path / "export" / "mcu" / "model_data.cc").stat().st_size > 0
  assert "mcu/model.tflite" in capsys.readouterr().out
