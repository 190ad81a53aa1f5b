"""What the eligibility report of a file consists of."""

import dataclasses
from typing import Optional

SOURCES = (
  "xnn_check_nchw_compatibility and xnn_subgraph_rewrite_for_nchw in src/subgraph.c of "
  "https://github.com/google/XNNPACK",
  "has_sparse_weights in tensorflow/lite/delegates/xnnpack/xnnpack_delegate.cc of "
  "https://github.com/tensorflow/tensorflow",
)


@dataclasses.dataclass(frozen=True)
class OperatorReport:
  """What is known of one operator.

  Attributes:
    subgraph: The subgraph it is in.
    index: Its position there.
    type: Name of the builtin operator, or "TFLM_DECODE".
    input_shapes: Of its tensors; weights included, without those left out.
    output_shapes: Likewise.
    dtype: Element type of its first output, as it is calculated.
    weight_dtype: Element type of its weight as it is stored, None without weight. To
      TFLM_DECODE, what it unpacks is its weight.
    weight_bytes: Of its weight in the file, None without weight.
    density: Share of its weight that is not zero, None without (or unreadable).
    stored: "sparse" or "dense", None without weight; of what TFLM_DECODE unpacks, the
      form: "PRUNING", "LUT" or, of several tensors, both with a + between.
    macs: Multiply-accumulates of a 1×1 convolution, otherwise 0.
    cluster: Number of the cluster it is in, None outside.
    sparse_on_arm: Whether it is part of what XNNPACK runs sparse on ARM: 1×1
      convolutions in sparse kernels, everything around them channel-first.
    block: Output channels that its sparse kernel takes at a time: 1, 2 or 4; None
      if it has none.
    reason: Why it is not run sparse, None if it is.
    mend: What to change, None if nothing is to be changed or known.
  """

  subgraph: int
  index: int
  type: str
  input_shapes: tuple[tuple[int, ...], ...]
  output_shapes: tuple[tuple[int, ...], ...]
  dtype: Optional[str]
  weight_dtype: Optional[str]
  weight_bytes: Optional[int]
  density: Optional[float]
  stored: Optional[str]
  macs: int
  cluster: Optional[int]
  sparse_on_arm: bool
  block: Optional[int]
  reason: Optional[str]
  mend: Optional[str]


@dataclasses.dataclass(frozen=True)
class ClusterReport:
  """A cluster with 1×1 convolutions.

  Attributes:
    number: Counts all clusters of the file.
    subgraph: The subgraph it is in.
    operators: Indices of its operators there.
    zeros: Zero weights of its 1×1 convolutions; more than two thirds must be.
    weights: All weights of them.
    sparse_on_arm: Whether XNNPACK runs it sparse.
    reasons: Every rule that fails; empty if none.
  """

  number: int
  subgraph: int
  operators: tuple[int, ...]
  zeros: int
  weights: int
  sparse_on_arm: bool
  reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Report:
  """The answer for a file.

  Attributes:
    eligible: As the file is stored, ARM XNNPACK would load it and run at least half
      of the multiply-accumulates of its 1×1 convolutions sparse.
    zero_fraction_1x1: Share of zeros of all weights of 1×1 convolutions; None
      without such weights.
    sparse_macs: Of 1×1 convolutions that would run sparse.
    macs: Of all 1×1 convolutions.
    errors: What goes wrong on ARM although it works on x86.
    clusters: Those with 1×1 convolutions.
    ops: Every operator, in file order.
    decoded_forms: Forms of tensors that operator TFLM_DECODE unpacks, in alphabetical
      order. A file with some is made for TensorFlow Lite Micro, not for phones.
    sources: Where the rules stand in the code of XNNPACK and of its delegate.
  """

  eligible: bool
  zero_fraction_1x1: Optional[float]
  sparse_macs: int
  macs: int
  errors: tuple[str, ...]
  clusters: tuple[ClusterReport, ...]
  ops: tuple[OperatorReport, ...]
  decoded_forms: tuple[str, ...] = ()
  sources: tuple[str, ...] = SOURCES
