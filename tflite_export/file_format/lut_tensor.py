"""Packs a tensor of few distinct values in the LUT form of TFLM_DECODE.

Each element becomes an index of 1 to 7 bits into a table of values; bytes are laid out
in TFLM's `compression/lut.py`, which packs them. Its ancillary names the axis along
which each channel has a table of its own, but the kernel of the runtime tested with
(0.dev20261023182759) goes by the tensor's quantisation instead: it moves on by
`value_table_stride` values at each quantised channel. One table for all channels
therefore has stride 0, and tables of their own follow the quantised axis.

Source: TFLM's `kernels/decode_state_lut.cc`; tests run every width in the runtime.
"""

import math
from typing import Optional

from tflite_micro.tensorflow.lite.micro.compression import decode, lut

from fedtiny_tff.arrays import Array
from tflite_export.file_format.pruned_tensor import HEADER_BYTES, PackedTensor

_LARGEST_TABLE = 2**lut.LutAncillaryData.MAX_BITWIDTH


def pack_lut(
  values: Array, channel_axis: Optional[int], below_bytes: int
) -> Optional[PackedTensor]:
  """Packs a dense array, with one table or one a channel, whichever takes less.

  Args:
    values: Array of any shape and of a type TFLM's kernel decodes, little-endian.
    channel_axis: Axis along which the tensor is quantised, 0 or the last; None if it
      has at most one scale.
    below_bytes: What the result must be smaller than.

  Returns:
    The buffers, which decode to the same bits; None when 7 bits are too few for an
    index or the size is reached.
  """
  # Compared by their bits, as 0.0 and -0.0 are two values.
  bits = values.view(f"<u{values.dtype.itemsize}")
  least_bytes = HEADER_BYTES + math.ceil(bits.size / 8)
  axes: list[Optional[int]] = [None]
  if channel_axis is not None:
    axes.append(channel_axis)
  best = None
  for axis in axes:
    channels = 1 if axis is None else bits.shape[axis]
    if least_bytes + channels * bits.itemsize >= below_bytes:
      continue
    tables = lut.compress_array(bits, axis)
    size = _packed_bytes(tables)
    if _longest(tables) <= _LARGEST_TABLE and size < below_bytes:
      best, below_bytes = tables, size
  return None if best is None else _pack(best, channel_axis)


def _longest(tables: lut.LutCompressedArray) -> int:
  """Returns the number of values of the largest table."""
  return max(len(table) for table in tables.lookup_tables)


def _packed_bytes(tables: lut.LutCompressedArray) -> int:
  """Returns the size of both buffers."""
  table_bytes = tables.lookup_tables[0].itemsize * _longest(tables)
  index_bytes = math.ceil(tables.indices.size * tables.index_bitwidth / 8)
  size: int = HEADER_BYTES + index_bytes + len(tables.lookup_tables) * table_bytes
  return size


def _pack(tables: lut.LutCompressedArray, channel_axis: Optional[int]) -> PackedTensor:
  """Returns the buffers."""
  axis = tables.compression_axis
  one_for_channels = axis is None and channel_axis is not None
  data = lut.LutAncillaryData(
    bitwidth=tables.index_bitwidth,
    axis=lut.LutAncillaryData.PER_TENSOR_AXIS if axis is None else axis,
    value_table_stride=0 if one_for_channels else _longest(tables),
    value_tables=lut.pack_lookup_tables(tables.lookup_tables, _longest(tables)),
  )
  header = decode.DecodeCommonMetadata(
    decode.DecodeType.LUT, user_data=data.to_user_data()
  )
  return PackedTensor(
    encoded=lut.pack_indices(tables.indices, tables.index_bitwidth),
    ancillary=header.to_bytes() + data.to_bytes(),
    form="LUT",
  )
