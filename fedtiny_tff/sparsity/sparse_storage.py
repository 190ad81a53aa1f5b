"""How many bytes a sparse kernel takes in storage, by arithmetic.

A kernel is a matrix of one row per output channel. Values, indices and pointers have
four bytes:

*   dense: every value;
*   bitmap: the non-zero values and one bit a position, in whole bytes;
*   COO: value, row and column of each non-zero;
*   CSR: value and column of each non-zero, and where each row starts and the last
    one ends.

With rows of hundreds of weights the bitmap is the smallest between about 97 % density,
above which the dense form is, and 1 bit / 4 bytes = 3 %, below which CSR is; COO wins
where most rows are empty.
"""

from collections import Counter
from collections.abc import Sequence

from fedtiny_tff.sparsity import spec as spec_lib

_VALUE_BYTES = 4
_INDEX_BYTES = 4


def kernel_bytes(rows: int, columns: int, nonzero: int) -> dict[str, int]:
  """Returns the bytes of a matrix in every form, by its name.

  Args:
    rows: Output channels.
    columns: Weights of each.
    nonzero: Weights that are not zero.

  Raises:
    ValueError: When there are more non-zeros than places.
  """
  size = rows * columns
  if not 0 <= nonzero <= size:
    raise ValueError(f"nonzero must be in [0, {size}], got {nonzero}")
  value_bytes = _VALUE_BYTES * nonzero
  return {
    "dense": _VALUE_BYTES * size,
    "bitmap": value_bytes + -(-size // 8),
    "coo": value_bytes + 2 * _INDEX_BYTES * nonzero,
    "csr": value_bytes + _INDEX_BYTES * (nonzero + rows + 1),
  }


def smallest_form(rows: int, columns: int, nonzero: int) -> tuple[str, int]:
  """Returns name and bytes of the smallest form; of equal ones the simplest."""
  forms = kernel_bytes(rows, columns, nonzero)
  return min(forms.items(), key=lambda form: form[1])


def model_bytes(
  spec: spec_lib.PrunableSpec, active: Sequence[int], unpruned_parameters: int
) -> tuple[int, dict[str, int]]:
  """Returns the bytes of a model, every layer in its smallest form.

  Args:
    spec: Prunable layers; the last dimension of a kernel is its output channels.
    active: Non-zero weights per layer.
    unpruned_parameters: Everything else, stored dense.

  Returns:
    Bytes, and the number of layers in each form.
  """
  chosen = [
    smallest_form(layer.shape[-1], layer.size // layer.shape[-1], count)
    for layer, count in zip(spec.layers, active, strict=True)
  ]
  layers = Counter(name for name, _ in chosen)
  total = sum(size for _, size in chosen) + _VALUE_BYTES * unpruned_parameters
  return total, {name: layers[name] for name in kernel_bytes(1, 1, 1)}
