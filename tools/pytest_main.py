"""Runs pytest on the files given: the main module of every Bazel `py_test`."""

import sys

import pytest

if __name__ == "__main__":
  sys.exit(pytest.main(["-p", "no:cacheprovider", *sys.argv[1:]]))
