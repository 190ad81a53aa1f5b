"""Generated code that compiles and computes, whatever the labels are."""

import pathlib
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data import preprocessing
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.signal_extraction import LogMel
from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.android import android_snippets
from tflite_export.android.android_snippets import Interface
from tflite_export.conversion import output_meaning

_STAND_IN = pathlib.Path(__file__).parent / "litert_stand_in"
_INTERFACE = Interface("serving_default", "inputs", "logits", (1, 2, 1, 2), (1, 4))
# What ends strings, starts templates or escapes, in one language or the other.
_LABELS = ('a "quote"', "$name ${1+1}", "back\\slash \\f", "tab\tline\n\f", "é 日本 😀")
_PREPROCESSING = Preprocessing(1 / 255, (0.5, 0.25), (0.5, 1e-05))
_IMAGES = Interface("serving_default", "inputs", "logits", (1, 4, 5, 3), (1, 4))
_RESIZING = Preprocessing(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), Resize(4, 5))
_GREY_IMAGES = Interface("serving_default", "inputs", "logits", (1, 4, 5, 1), (1, 4))
_GREYING = Preprocessing(1 / 255, (0.5,), (0.2,), Resize(4, 5, grey=True))
# Smaller, larger and as it is; by whole numbers and by others.
_IMAGE_SIZES = ((8, 10), (7, 3), (4, 5), (2, 31))
_LISTENING = Preprocessing(
  1.0,
  (0.0,),
  (1.0,),
  LogMel(samples=4, sample_rate_hz=8, window_samples=4, hop_samples=1, upper_hz=4.0,
         lower_hz=0.0),
)  # fmt: skip

# 1.25 is 2.5 steps of 0.5, which are rounded away from zero to 3: 2 · 1.5; so is -1.25.
# 1,000 saturates at 127, which is 130 steps above the zero point of -3: 2 · 65, and so does
# what is beyond every int. The least output is 118 steps below its zero point of -10.
_MAIN = """
import java.nio.ByteBuffer;
import org.example.model.GreyNetModel;
import org.example.model.ImageNetModel;
import org.example.model.SignalNetModel;
import org.example.model.TinyNetModel;

public final class Main {
  public static void main(String[] arguments) {
    float[] values = {1.25f, -1.0f, 0.0f, 1000.0f};
    float[] ends = {-1.25f, -1e10f, 1e10f, -1000.0f};
    for (byte isInt8 = 0; isInt8 <= 1; isInt8++) {
      TinyNetModel model = new TinyNetModel(ByteBuffer.wrap(new byte[] {isInt8}), 1);
      for (float result : model.run(values)) {
        System.out.println(result);
      }
      for (float result : model.run(ends)) {
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
    for (float share : TinyNetModel.ACCESSprobabilities(new float[] {1000.0f, 1000.0f})) {
      System.out.println(share);
    }
    for (float value : GreyNetModel.ACCESScolours(new int[] {0xff0102ff, 0x00fe0000})) {
      System.out.println(value);
    }
    try {
      GreyNetModel.ACCESSpreprocess(new float[6], 2, 3);
    } catch (IllegalArgumentException error) {
      System.out.println(error.getMessage());
    }
    try {
      ImageNetModel.ACCESSpreprocess(new float[17], 2, 3);
    } catch (IllegalArgumentException error) {
      System.out.println(error.getMessage());
    }
    int[] sizes = {SIZES};
    for (int k = 0; k < sizes.length; k += 2) {
      float[] image = new float[sizes[k] * sizes[k + 1] * 3];
      for (int i = 0; i < image.length; i++) {
        image[i] = (i * i * 37) % 256;
      }
      for (float value : ImageNetModel.ACCESSpreprocess(image, sizes[k], sizes[k + 1])) {
        System.out.println(value);
      }
      for (float value : GreyNetModel.ACCESSpreprocess(image, sizes[k], sizes[k + 1])) {
        System.out.println(value);
      }
    }
    try (SignalNetModel.Preprocessing made =
        new SignalNetModel.Preprocessing(ByteBuffer.wrap(new byte[] {0}))) {
      for (float value : made.run(values)) {
        System.out.println(value);
      }
      made.run(new float[3]);
    } catch (IllegalArgumentException error) {
      System.out.println(error.getMessage());
    }
  }
}
""".replace("SIZES", ", ".join(str(side) for sides in _IMAGE_SIZES for side in sides))
_PRINTED = [
  *("2.5", "-2.0", "0.0", "2000.0", "-2.5", "-2.0E10", "2.0E10", "-2000.0"),
  *("3.0", "-2.0", "0.0", "130.0", "-3.0", "-118.0", "130.0", "-118.0"),
  *("1.0", "-25000.0"),
  *(str(len(label.encode("utf-16-le")) // 2) for label in _LABELS),
  "the model takes 4 values, got 3",
  *("0.5", "0.5"),
  *("1.0", "2.0", "255.0", "254.0", "0.0", "0.0"),
  "the image has 6 values, wanted are height * width * 3: 18",
  "the image has 17 values, wanted are height * width * 3: 18",
]
# The stand-in doubles the signal, too.
_PRINTED_OF_SIGNALS = [
  *("2.5", "-2.0", "0.0", "2000.0"),
  "the signal has 3 samples, wanted are 4",
]


def _snippets(**changes):
  arguments: dict[str, Any] = {
    "model_name": "tiny_net",
    "interface": _INTERFACE,
    "preprocessing": _PREPROCESSING,
    "labels": _LABELS,
    "outputs": output_meaning.LOGITS,
  }
  return android_snippets.snippets(**(arguments | changes))


def _of_every_kind():
  """Snippets for features as they are, images and signals."""
  of_images = {"interface": _IMAGES, "preprocessing": _RESIZING, "labels": None}
  of_grey = {"interface": _GREY_IMAGES, "preprocessing": _GREYING, "labels": None}
  return {
    **_snippets(),
    **_snippets(model_name="image_net", **of_images),
    **_snippets(model_name="grey_net", **of_grey),
    **_snippets(model_name="signal_net", preprocessing=_LISTENING, labels=None),
  }


def _sources(folder, ending):
  """Writes the snippets of one language beside the stand-in."""
  shutil.copytree(_STAND_IN, folder, dirs_exist_ok=True)
  texts = _of_every_kind()
  names = [name for name in texts if name.endswith(ending)]
  for name in names:
    (folder / name).write_text(texts[name], encoding="utf-8")
  return [str(folder / name) for name in names]


def _check_printed(text):
  """Compares what the program prints; images with TensorFlow's own resizing."""
  lines = text.splitlines()
  of_signals = len(lines) - len(_PRINTED_OF_SIGNALS)
  assert lines[: len(_PRINTED)] == _PRINTED
  assert lines[of_signals:] == _PRINTED_OF_SIGNALS
  wanted = []
  for height, width in _IMAGE_SIZES:
    numbers = np.arange(height * width * 3)
    image = (numbers * numbers * 37 % 256).reshape(1, height, width, 3)
    for declared in (_RESIZING, _GREYING):
      made = preprocessing.apply_raw(declared, tf.constant(image.astype(np.uint8)))
      wanted.append(made.numpy().ravel())
  found = np.array(lines[len(_PRINTED) : of_signals], np.float32)
  # One step of a byte is 0.0098 here.
  np.testing.assert_allclose(found, np.concatenate(wanted), rtol=1e-6, atol=1e-6)


def _run(*command):
  done = subprocess.run(command, capture_output=True, check=False, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


def _needs(*programs):
  missing = [name for name in programs if not shutil.which(name)]
  if missing:
    pytest.skip(f"needs {', '.join(missing)} (Debian: default-jdk-headless, kotlin)")


def _java_program(folder, static, labels):
  main = _MAIN
  for name in ("preprocess", "probabilities", "colours"):
    main = main.replace(f"ACCESS{name}", f"{static}{name}")
  (folder / "Main.java").write_text(main.replace("LABELS_ACCESS", labels))
  return folder / "Main.java"


def test_java_compiles_and_computes(tmp_path):
  _needs("javac", "java")
  sources = _sources(tmp_path, ".java")
  main = _java_program(tmp_path, "", "LABELS")
  options = ["-encoding", "utf-8", "-Xlint:all", "-Werror", "-d", str(tmp_path)]
  _run("javac", *options, "-sourcepath", str(tmp_path), *sources, str(main))
  _check_printed(_run("java", "-cp", str(tmp_path), "Main"))


@pytest.mark.slow
def test_kotlin_compiles_and_computes(tmp_path):
  """Slow, because Kotlin brings half a gigabyte of packages along."""
  _needs("javac", "java", "kotlinc")
  sources = _sources(tmp_path, ".kt")
  main = _java_program(tmp_path, "Companion.", "Companion.getLABELS()")
  jar = tmp_path / "model.jar"
  lite = [str(path) for path in sorted((tmp_path / "org/tensorflow/lite").iterdir())]
  _run("javac", "-d", str(tmp_path), *lite)
  classpath = ["-cp", str(tmp_path)]
  _run("kotlinc", *classpath, "-include-runtime", "-d", str(jar), *sources)
  classpath = ["-cp", f"{tmp_path}:{jar}"]
  _run("javac", *classpath, "-d", str(tmp_path), str(main))
  _check_printed(_run("java", *classpath, "Main"))


def test_without_labels_and_preprocessing_both_are_left_out():
  for text in _snippets(labels=None, preprocessing=None).values():
    assert "LABELS" not in text
    assert "preprocess(" not in text
    assert "INPUT_SHAPE" in text


def test_signals_are_left_to_the_file():
  for text in _snippets(preprocessing=_LISTENING).values():
    assert "SAMPLE_RATE_HZ = 8" in text
    assert "preprocess(" not in text
    assert "DEVIATION" not in text


@pytest.mark.parametrize(
  ("outputs", "told", "has_softmax"),
  [
    (output_meaning.LOGITS, "no probabilities until softmax", True),
    (output_meaning.SOFTMAX, "they add up to 1, apply no second one", False),
    (output_meaning.RECONSTRUCTION, "the input again", False),
  ],
)
def test_what_run_gives_is_told(outputs, told, has_softmax):
  for text in _snippets(outputs=outputs).values():
    assert told in " ".join(text.replace("*", " ").split())
    assert (" probabilities(" in text) == has_softmax


def test_raw_values_are_told_where_they_are_taken():
  told = (
    "from 0 to 16, as in the training data, of which there is much more to say here"
  )
  for text in _snippets(raw_values=told).values():
    assert f"@param raw values {told}." in " ".join(text.replace("*", " ").split())


@pytest.mark.parametrize(
  ("preprocessing", "interface", "has_colours"),
  [
    (_RESIZING, _IMAGES, True),
    (_GREYING, _GREY_IMAGES, True),
    (Preprocessing(1 / 255, (0.5,), (0.2,)), _IMAGES, True),
    # No bytes; no colours.
    (Preprocessing(1.0, (0.5,), (0.2,)), _IMAGES, False),
    (Preprocessing(1 / 255, (0.5,), (0.2,), Resize(4, 5)), _GREY_IMAGES, False),
    (_PREPROCESSING, _INTERFACE, False),
  ],
)
def test_bitmaps_are_taken_where_raw_examples_have_colours(
  preprocessing, interface, has_colours
):
  for text in _snippets(preprocessing=preprocessing, interface=interface).values():
    assert ("colours(" in text) == has_colours


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
