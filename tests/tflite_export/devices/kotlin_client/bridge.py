"""Computes for `Interpreter.java`: signatures, with names and bytes over pipes."""

import struct
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def _read_number() -> int:
  head = sys.stdin.buffer.read(4)
  if len(head) < 4:
    raise SystemExit(0)
  return struct.unpack(">i", head)[0]


def _read() -> bytes:
  return sys.stdin.buffer.read(_read_number())


def _write(content: bytes) -> None:
  sys.stdout.buffer.write(struct.pack(">i", len(content)) + content)


def main() -> None:
  interpreter = Interpreter(model_content=_read(), num_threads=1)
  while True:
    runner = interpreter.get_signature_runner(_read().decode())
    details = runner.get_input_details()
    inputs = {}
    for _ in range(_read_number()):
      name = _read().decode()
      shape, dtype = details[name]["shape"], details[name]["dtype"]
      inputs[name] = np.frombuffer(_read(), dtype).reshape(shape)
    outputs = runner(**inputs)
    sys.stdout.buffer.write(struct.pack(">i", len(outputs)))
    for name, values in outputs.items():
      _write(name.encode())
      _write(values.tobytes())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
  main()
