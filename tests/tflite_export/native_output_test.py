import os

import pytest

from tflite_export.native_output import captured_stderr


def test_collects_what_is_written_to_the_descriptor(capfd):
  with captured_stderr() as printed:
    os.write(2, "from C++: ü\n".encode())
    assert printed() == "from C++: ü\n"
  assert capfd.readouterr() == ("", "")


def test_stderr_is_back_after_an_error(capfd):
  with pytest.raises(KeyError), captured_stderr():
    os.write(2, b"lost")
    raise KeyError
  os.write(2, b"heard")
  assert capfd.readouterr().err == "heard"


def test_text_that_is_not_utf_8_is_readable():
  with captured_stderr() as printed:
    os.write(2, b"\xff!")
    assert printed().endswith("!")
