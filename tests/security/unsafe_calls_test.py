"""Nothing unpickles, nothing evaluates, nothing starts a shell."""

import pathlib

import pytest

from tests.security.unsafe_calls import unsafe_calls
from tools import imports

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where it is done after all, and why that is safe.
ADMITTED = {
  # Only after the archive's configuration and weights were inspected.
  "fedtiny_tff/models/keras_archive.py": ["load_model reads a model's file itself"],
  # Only after Protocol Buffers has parsed each record.
  "fedtiny_tff/data/sources/example_fields.py": [
    "parse_example believes the lengths that a record states"
  ],
  # What tfmot's cloning hands back within the process; it reads no file.
  "fedtiny_tff/masked_models/tfmot_quantisers.py": [
    "deserialize_keras_object makes objects of any configuration"
  ],
  # What setuptools has just made of the checkout.
  "tools/dist.py": ["archive.extractall unpacks wherever entries say"],
  # Wheels whose hashes were checked; `ZipFile` keeps entries inside the folder.
  "tools/arm64.py": ["extractall unpacks wherever entries say"],
}


def _found(path: pathlib.Path) -> list[str]:
  name = path.as_posix()
  found = unsafe_calls((ROOT / path).read_text(encoding="utf-8"), name)
  return [
    line
    for line in found
    if not any(line.endswith(admitted) for admitted in ADMITTED.get(name, ()))
  ]


def test_no_module_runs_what_data_bring_along():
  paths = [path for path in imports.source_files(ROOT) if path.parts[0] != "tests"]
  assert len(paths) > 200
  assert not [line for path in paths for line in _found(path)]


@pytest.mark.parametrize("name", ADMITTED)
def test_what_is_admitted_is_still_there(name):
  source = (ROOT / name).read_text(encoding="utf-8")
  assert len(unsafe_calls(source, name)) == len(ADMITTED[name])


@pytest.mark.parametrize(
  "source",
  [
    "import pickle",
    "from pickle import loads",
    "import cloudpickle as c",
    "import joblib.numpy_pickle",
    "importlib.import_module('dill')",
    "__import__('marshal')",
    "import shelve",
    "import yaml",
    "import numpy as np\nnp.load(p)",
    "import numpy as np\nnp.load(p, allow_pickle=True)",
    "import numpy as np\nnp.load(p, allow_pickle=anything)",
    "from numpy import load as read\nread(p)",
    "import numpy\nnumpy.lib.format.read_array(f)",
    "import pandas as pd\npd.read_pickle(p)",
    "eval('1')",
    "exec(text)",
    "import builtins\nbuiltins.exec(text)",
    "compile(text, '', 'exec')",
    "import os\nos.system('ls')",
    "from os import popen\npopen('ls')",
    "import subprocess\nsubprocess.run('ls', shell=True)",
    "import subprocess as s\ns.Popen('ls', shell=is_shell)",
    "import subprocess\nsubprocess.getoutput('ls')",
    "import tensorflow as tf\ntf.saved_model.load(p)",
    "import tensorflow as tf\ntf.keras.models.load_model(p, safe_mode=True)",
    "import tensorflow as tf\ntf.keras.models.load_model(p)",
    "from tensorflow.keras.models import load_model\nload_model(p, safe_mode=False)",
    "model.load_weights(p)",
    "import tensorflow as tf\ntf.keras.models.model_from_json(t)",
    "import tensorflow as tf\ntf.keras.layers.deserialize(c)",
    "keras.config.enable_unsafe_deserialization()",
    "import tarfile\ntarfile.open(p).extractall()",
    "import shutil\nshutil.unpack_archive(p)",
    "import tensorflow as tf\ntf.py_function(f, [], [])",
    "import tensorflow as tf\ntf.io.parse_example(r, f)",
    "import tempfile\ntempfile.mktemp()",
  ],
)
def test_what_is_planted_is_found(source):
  assert unsafe_calls(source, "pipelines/x.py")
  indented = "".join(f"    {line}\n" for line in source.splitlines())
  assert unsafe_calls(f"class A:\n  def f(self):\n{indented}", "pipelines/x.py")


@pytest.mark.parametrize(
  "source",
  [
    "import numpy as np\nnp.load(p, mmap_mode='r', allow_pickle=False)",
    "import re\nre.compile('a')",
    "import json\njson.load(f)",
    "import subprocess\nsubprocess.run(['ls'], check=True)",
    "import subprocess\nsubprocess.run(['ls'], shell=False)",
    "manager.load(version)",
    "import code_of_ours",
  ],
)
def test_what_is_harmless_is_left_alone(source):
  assert unsafe_calls(source, "pipelines/x.py") == []


def test_the_two_problems_of_one_call_are_both_told():
  source = "import tensorflow as tf\ntf.keras.models.load_model(p)"
  assert unsafe_calls(source, "x.py") == [
    "x.py:2: tensorflow.keras.models.load_model reads a model's file itself",
    "x.py:2: tensorflow.keras.models.load_model without safe_mode=True",
  ]
