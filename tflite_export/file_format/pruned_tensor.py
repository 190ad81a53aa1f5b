"""Packs a tensor in the PRUNING form of TFLM_DECODE, operator of TFLM.

A constant tensor of n elements becomes two constant UINT8 tensors, and the custom
operator `TFLM_DECODE` writes the dense tensor into the arena right before each
operator that reads it:

  encoded    ceil(n / 8) bytes. Element i, in storage order, is bit 7 - i % 8 of
             byte i // 8: 1 takes the next stored value, 0 is the zero point.
             Unused bits of the last byte are 0.
  ancillary  byte 0      2, decode type PRUNING
             byte 1      1, version of this header
             bytes 2-3   0
             byte 4      1, version of PRUNING
             bytes 5-15  0
             bytes 16-   the values that are not the zero point, in storage order,
                         little-endian

Sources: TFLM's `kernels/decode.cc`, `kernels/decode_state_prune.cc` and
`compression/decode.py`.
"""

import dataclasses

import numpy as np

from fedtiny_tff.arrays import Array

HEADER_BYTES = 16


@dataclasses.dataclass(frozen=True)
class PackedTensor:
  """The two buffers of one packed tensor.

  Attributes:
    encoded: One or more bits an element.
    ancillary: Header and values.
    form: "PRUNING", laid out as the module says, or "LUT" (`lut_tensor`).
  """

  encoded: bytes
  ancillary: bytes
  form: str = "PRUNING"

  @property
  def bytes(self) -> int:
    """Size of both."""
    return len(self.encoded) + len(self.ancillary)


def pack_pruned(values: Array, zeros: Array) -> PackedTensor:
  """Packs a dense array.

  Args:
    values: Array of any shape and of a type TFLM's kernel decodes, little-endian.
    zeros: Array of the same type that broadcasts to `values`: the value a 0 bit
      stands for, per element.

  Returns:
    The buffers; decoding them gives the bytes of `values` back, also for -0.0 and
    NaN, because floats are compared by their bits.
  """
  bits = f"<u{values.dtype.itemsize}"
  stored = (values.view(bits) != zeros.view(bits)).reshape(-1)
  header = bytes([2, 1, 0, 0, 1]).ljust(HEADER_BYTES, b"\0")
  return PackedTensor(
    encoded=np.packbits(stored).tobytes(),
    ancillary=header + values.reshape(-1)[stored].tobytes(),
  )
