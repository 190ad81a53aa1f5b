"""The type of numpy arrays whose element type stands in the docstring."""

from typing import Any, TypeAlias

import numpy.typing as npt

# numpy's types cannot express shapes, and element types only where nothing is computed.
Array: TypeAlias = npt.NDArray[Any]
