"""Tells whether the weights of a `.keras` file lie in that file and nowhere else.

HDF5 can take a dataset's values from any other file, claim more values than it stores,
and link groups in a circle. Keras writes none of this, and follows all of it.
https://support.hdfgroup.org/documentation/hdf5/latest/_h5_d__u_g.html
"""

import io
from typing import Any

import h5py

# Of integers, floats and truth values; other kinds hold references or text.
_NUMBERS = "biuf"


class OddWeights(ValueError):
  """Weights that Keras has not written; the message says why, in one line."""


def check(content: bytes) -> None:
  """Checks every link and dataset without reading a value.

  Args:
    content: The member `model.weights.h5`.

  Raises:
    OddWeights: When something in it is not as Keras writes it.
    Exception: Whatever h5py makes of damaged bytes.
  """
  with h5py.File(io.BytesIO(content), "r") as file:
    waiting: list[Any] = [file]
    seen: set[int] = set()
    left_bytes = len(content)
    while waiting:
      found = waiting.pop()
      place = h5py.h5o.get_info(found.id).addr
      if place in seen:
        raise OddWeights("its weights are linked twice, or in a circle")
      seen.add(place)
      if isinstance(found, h5py.Group):
        waiting += [_linked(found, name) for name in found]
      else:
        left_bytes -= _stored_bytes(found)
        if left_bytes < 0:
          raise OddWeights("its weights claim more bytes than it has")


def _linked(group: Any, name: str) -> Any:
  """Returns what a group holds under a name, if it lies in the same file."""
  if not isinstance(group.get(name, getlink=True), h5py.HardLink):
    raise OddWeights("its weights hold a link that may lead to another file")
  return group[name]


def _stored_bytes(dataset: Any) -> int:
  """Returns the size of a dataset whose values all lie in the file."""
  if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in _NUMBERS:
    raise OddWeights("its weights hold something other than numbers")
  if dataset.is_virtual or dataset.external:
    raise OddWeights("its weights lie in another file")
  stored = int(dataset.id.get_storage_size())
  if dataset.nbytes != stored:
    raise OddWeights(
      f"its weights claim {dataset.nbytes:,} bytes where it stores {stored:,}"
    )
  return stored
