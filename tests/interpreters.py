"""An interpreter as set-up wants it."""

from tools.setup_interpreters import Interpreter

GOOD = Interpreter(
  executable="/usr/bin/python3.11",
  version=(3, 11, 2),
  implementation="CPython",
  platform="Linux x86_64",
  libc=("glibc", "2.36"),
  base_prefix="/usr",
  can_make_venv=True,
)
