"""Generated code that compiles and computes, whatever the labels are."""

import pathlib
import shutil
import subprocess
from typing import Any

import pytest

from fedtiny_tff.data.examples import Preprocessing
from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export import android_snippets
from tflite_export.android_snippets import Interface

_STAND_IN = pathlib.Path(__file__).parent / "litert_stand_in"
_INTERFACE = Interface("serving_default", "inputs", "logits", (1, 2, 1, 2), (1, 4))
# What ends strings, starts templates or escapes, in one language or the other.
_LABELS = ('a "quote"', "$name ${1+1}", "back\\slash", "tab\tline\n\f", "é 日本 😀")
_PREPROCESSING = Preprocessing(1 / 255, (0.5, 0.25), (0.5, 1e-05))

# 1.25 is 2.5 steps of 0.5, and Java rounds it up to 3: 2 · 1.5. 1,000 saturates at 127,
# which is 130 steps above the zero point of -3: 2 · 65.
_MAIN = """
import java.nio.ByteBuffer;
import org.example.model.TinyNetModel;

public final class Main {
  public static void main(String[] arguments) {
    float[] values = {1.25f, -1.0f, 0.0f, 1000.0f};
    for (byte isInt8 = 0; isInt8 <= 1; isInt8++) {
      TinyNetModel model = new TinyNetModel(ByteBuffer.wrap(new byte[] {isInt8}), 1);
      for (float result : model.run(values)) {
        System.out.println(result);
      }
      model.close();
    }
    for (float value : TinyNetModel.ACCESSpreprocess(new float[] {255.0f, 0.0f})) {
      System.out.println(value);
    }
    for (String label : TinyNetModel.LABELS_ACCESS) {
      System.out.println(label.length());
    }
    try {
      new TinyNetModel(ByteBuffer.wrap(new byte[] {0}), 1).run(new float[3]);
    } catch (IllegalArgumentException error) {
      System.out.println(error.getMessage());
    }
  }
}
"""
_PRINTED = [
  *("2.5", "-2.0", "0.0", "2000.0"),
  *("3.0", "-2.0", "0.0", "130.0"),
  *("1.0", "-25000.0"),
  *(str(len(label.encode("utf-16-le")) // 2) for label in _LABELS),
  "the model takes 4 values, got 3",
]


def _snippets(**changes):
  arguments: dict[str, Any] = {
    "model_name": "tiny_net",
    "interface": _INTERFACE,
    "preprocessing": _PREPROCESSING,
    "labels": _LABELS,
  }
  return android_snippets.snippets(**(arguments | changes))


def _sources(folder, texts, ending):
  """Writes the snippet of one language beside the stand-in."""
  shutil.copytree(_STAND_IN, folder, dirs_exist_ok=True)
  (name,) = (name for name in texts if name.endswith(ending))
  (folder / name).write_text(texts[name], encoding="utf-8")
  return folder / name


def _run(*command):
  done = subprocess.run(command, capture_output=True, check=False, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


def _needs(*programs):
  missing = [name for name in programs if not shutil.which(name)]
  if missing:
    pytest.skip(f"needs {', '.join(missing)} (Debian: default-jdk-headless, kotlin)")


def _java_program(folder, static, labels):
  main = _MAIN.replace("ACCESSpreprocess", f"{static}preprocess")
  (folder / "Main.java").write_text(main.replace("LABELS_ACCESS", labels))
  return folder / "Main.java"


def test_java_compiles_and_computes(tmp_path):
  _needs("javac", "java")
  source = _sources(tmp_path, _snippets(), ".java")
  main = _java_program(tmp_path, "", "LABELS")
  options = ["-encoding", "utf-8", "-Xlint:all", "-Werror", "-d", str(tmp_path)]
  _run("javac", *options, "-sourcepath", str(tmp_path), str(source), str(main))
  assert _run("java", "-cp", str(tmp_path), "Main").splitlines() == _PRINTED


@pytest.mark.slow
def test_kotlin_compiles_and_computes(tmp_path):
  """Slow, because Kotlin brings half a gigabyte of packages along."""
  _needs("javac", "java", "kotlinc")
  source = _sources(tmp_path, _snippets(), ".kt")
  main = _java_program(tmp_path, "Companion.", "Companion.getLABELS()")
  jar = tmp_path / "model.jar"
  lite = [str(path) for path in sorted((tmp_path / "org/tensorflow/lite").iterdir())]
  _run("javac", "-d", str(tmp_path), *lite)
  classpath = ["-cp", str(tmp_path)]
  _run("kotlinc", *classpath, "-include-runtime", "-d", str(jar), str(source))
  classpath = ["-cp", f"{tmp_path}:{jar}"]
  _run("javac", *classpath, "-d", str(tmp_path), str(main))
  assert _run("java", *classpath, "Main").splitlines() == _PRINTED


def test_without_labels_and_preprocessing_both_are_left_out():
  for text in _snippets(labels=None, preprocessing=None).values():
    assert "LABELS" not in text
    assert "preprocess(" not in text
    assert "INPUT_SHAPE" in text


def test_very_many_labels_are_left_to_the_file():
  for text in _snippets(labels=["n" * 31] * 1000).values():
    assert "LABELS" not in text
  for text in _snippets(labels=["n" * 30] * 1000).values():
    assert "LABELS" in text


@pytest.mark.parametrize(
  ("model", "name"),
  [
    ("digits_cnn", "DigitsCnnModel"),
    ("resnet18", "Resnet18Model"),
    ("my-net v2.1", "MyNetV21Model"),
    ("3d", "M3dModel"),
    ("ß", "Model"),
  ],
)
def test_class_names_are_identifiers(model, name):
  assert android_snippets.class_name(model) == name


@pytest.mark.parametrize("format", ["fp32_sparse", "int8_dense"])
def test_the_interface_is_read_from_the_file(format):
  assert android_snippets.read_interface(models.converted(format)) == Interface(
    "serving_default", "inputs", "logits", (1, 16, 16, 3), (1, 4)
  )


def test_damaged_bytes_have_no_interface():
  with pytest.raises(InputError, match="TFL3"):
    android_snippets.read_interface(b"")
