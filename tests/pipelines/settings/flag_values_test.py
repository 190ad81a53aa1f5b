"""A value that is wrong by itself is told before TensorFlow is loaded."""

import subprocess
import sys

import pytest

from tests.pipelines import support

_RUN = ("run", "--flagfile=pipelines/presets/digits.flags")


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ((*_RUN, "--strategy=fedtinny"), "did you mean fedtiny?"),
    ((*_RUN, "--rounds=0"), "--rounds must be at least 1, got 0"),
    ((*_RUN, "--target_density=nan"), "--target_density must be a finite number"),
    ((*_RUN, "--target_density=1.5"), "--target_density must be in (0, 1], got 1.5"),
    ((*_RUN, "--targets=mcu,mcu"), "--targets names 'mcu' more than once"),
    ((*_RUN, "--board=stm32f1"), "--board"),
    ((*_RUN, "--mcu_activation_bits=4"), "must be 8 or 16, got 4"),
    ((*_RUN, "--trim_share=0.5"), "--trim_share must be below 0.5"),
    ((*_RUN, "--model_licence=MIT\nsee LICENSE"), "must be UTF-8 text without line"),
    ((*_RUN, "--feature_columns=a,b\u2028c"), "--feature_columns='b\\u2028c': must be"),
    ((*_RUN, "--max_local_steps=3000000000"), "--max_local_steps must be at most"),
    ((*_RUN, "--dataset=digit"), "did you mean digits?"),
    (("train", *_RUN[1:], "--pool_size=1001"), "--pool_size must be at most 1000"),
    (("compare", *_RUN[1:], "--batch_size=0"), "--batch_size must be at least 1"),
    (("data", "--partitioner=idd"), "did you mean iid?"),
    (("export", "--keras_model=a.keras", "--targets=andriod"), "did you mean android?"),
  ],
)
def test_it_is_one_line_without_tensorflow(tmp_path, arguments, said):
  command = [sys.executable, "-X", "importtime", "-m", f"pipelines.{arguments[0]}"]
  ended = subprocess.run(
    [*command, *arguments[1:], f"--output_dir={tmp_path / 'out'}"],
    cwd=support.ROOT, capture_output=True, text=True, check=False,
  )  # fmt: skip
  lines = ended.stderr.splitlines()
  imported = {line.split("|")[-1].strip() for line in lines if "|" in line}
  told = [line for line in lines if not line.startswith("import time:")]
  assert ended.returncode == 2
  assert len(told) == 1
  assert said in told[0]
  assert "pipelines.settings.flag_values" in imported
  assert not imported & {"tensorflow", "tensorflow_federated", "keras", "pandas"}
  assert not (tmp_path / "out").exists()
