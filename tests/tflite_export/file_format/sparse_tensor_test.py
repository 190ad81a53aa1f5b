import numpy as np
import pytest
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from tests.tflite_export import files
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.sparse_tensor import MAX_ELEMENTS, Level, densify


def encode(dense, traversal_order, block_map, block_sizes, compressed):
  """Stores a tensor sparse, slowly: one Python list of branches a level.

  Args:
    dense: The tensor.
    traversal_order: As in SparsityParameters.
    block_map: As in SparsityParameters.
    block_sizes: Size of each block.
    compressed: One bool a level: CSR or dense.
  """
  split, labels = [], []
  for dimension, size in enumerate(dense.shape):
    labels.append(dimension)
    if dimension in block_map:
      block = block_map.index(dimension)
      split += [size // block_sizes[block], block_sizes[block]]
      labels.append(dense.ndim + block)
    else:
      split.append(size)
  tree = dense.reshape(split).transpose([labels.index(d) for d in traversal_order])
  branches: list[tuple[int, ...]] = [()]
  levels = []
  for depth, is_compressed in enumerate(compressed):
    size = tree.shape[depth]
    if is_compressed:
      children = [[i for i in range(size) if tree[(*b, i)].any()] for b in branches]
      segments = np.cumsum([0] + [len(c) for c in children])
      levels.append(
        Level(
          segments=segments,
          indices=np.array([i for c in children for i in c], np.int64),
        )
      )
    else:
      children = [list(range(size)) for _ in branches]
      levels.append(Level(size=size))
    branches = [(*b, i) for b, c in zip(branches, children, strict=True) for i in c]
  return np.array([tree[b] for b in branches], dense.dtype), levels


@st.composite
def sparse_tensors(draw):
  """A random tensor and a random way to store it that the schema allows."""
  rank = draw(st.integers(1, 4))
  block_map = sorted(draw(st.sets(st.integers(0, rank - 1))))
  block_sizes = [draw(st.integers(1, 3)) for _ in block_map]
  shape = [draw(st.integers(1, 3)) for _ in range(rank)]
  for dimension, size in zip(block_map, block_sizes, strict=True):
    shape[dimension] *= size
  generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  kept = generator.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
  dense = (generator.integers(1, 100, shape) * kept).astype(np.float32)
  # Blocks come last, in order, and are dense inside.
  order = draw(st.permutations(range(rank)))
  order += range(rank, rank + len(block_map))
  compressed = [draw(st.booleans()) for _ in range(rank)] + [False] * len(block_map)
  return dense, order, block_map, block_sizes, compressed


@given(sparse_tensors())
@settings(max_examples=200, deadline=None)
def test_densify_undoes_encode(case):
  dense, order, block_map, block_sizes, compressed = case
  values, levels = encode(dense, order, block_map, block_sizes, compressed)
  np.testing.assert_array_equal(
    densify(values, dense.shape, order, block_map, levels), dense
  )


def densify_file(values, shape, order, block_map, levels):
  """Returns a file that is one DENSIFY operator on a constant."""
  parameters = schema.SparsityParametersT()
  parameters.traversalOrder = order
  parameters.blockMap = block_map or None
  parameters.dimMetadata = [dimension_metadata(level) for level in levels]
  stored = files.tensor(shape, buffer=1)
  stored.sparsity = parameters
  densify_code = schema.BuiltinOperator.DENSIFY
  return files.one_operator(
    densify_code, [stored, files.tensor(shape)], [0], [1], values
  )


def dimension_metadata(level):
  metadata = schema.DimensionMetadataT()
  if level.size is not None:
    metadata.format, metadata.denseSize = schema.DimensionType.DENSE, level.size
    return metadata
  metadata.format = schema.DimensionType.SPARSE_CSR
  metadata.arraySegmentsType = schema.SparseIndexVector.Int32Vector
  metadata.arrayIndicesType = schema.SparseIndexVector.Uint8Vector
  metadata.arraySegments, metadata.arrayIndices = (
    schema.Int32VectorT(),
    schema.Uint8VectorT(),
  )
  metadata.arraySegments.values = level.segments.astype(np.int32)
  metadata.arrayIndices.values = level.indices.astype(np.uint8)
  return metadata


@given(sparse_tensors())
@settings(max_examples=60, deadline=None)
def test_reader_agrees_with_litert(case):
  dense, order, block_map, block_sizes, compressed = case
  values, levels = encode(dense, order, block_map, block_sizes, compressed)
  # LiteRT takes a tensor without bytes for one that is not constant.
  assume(len(values))
  content = densify_file(values, dense.shape, order, block_map, levels)
  # XNNPACK, the default delegate, runs no graph of DENSIFY alone.
  interpreter = litert.Interpreter(
    model_content=content,
    experimental_op_resolver_type=(
      litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    ),
  )
  interpreter.allocate_tensors()
  interpreter.invoke()
  model = flatbuffer_model.read_model(content)
  ours = flatbuffer_model.constant(model, model.subgraphs[0].tensors[0])
  np.testing.assert_array_equal(ours, interpreter.get_tensor(1))
  np.testing.assert_array_equal(ours, dense)


def rows_then_columns():
  """[[0, 5, 0], [7, 0, 8]]: dense rows, compressed columns."""
  return {
    "values": np.array([5, 7, 8]),
    "shape": [2, 3],
    "traversal_order": [0, 1],
    "block_map": [],
    "levels": [
      Level(size=2),
      Level(segments=np.array([0, 1, 3]), indices=np.array([1, 0, 2])),
    ],
  }


def test_compressed_rows_by_hand():
  np.testing.assert_array_equal(densify(**rows_then_columns()), [[0, 5, 0], [7, 0, 8]])


def test_blocks_by_hand():
  # 2x2 blocks; only the upper right one of the four is stored.
  dense = densify(
    values=np.array([1, 2, 3, 4]),
    shape=[4, 4],
    traversal_order=[0, 1, 2, 3],
    block_map=[0, 1],
    levels=[
      Level(size=2),
      Level(segments=np.array([0, 1, 1]), indices=np.array([1])),
      Level(size=2),
      Level(size=2),
    ],
  )
  np.testing.assert_array_equal(
    dense, [[0, 0, 1, 2], [0, 0, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]]
  )


def test_columns_first_by_hand():
  dense = densify(
    values=np.array([7, 5, 8]),
    shape=[2, 3],
    traversal_order=[1, 0],
    block_map=[],
    levels=[
      Level(size=3),
      Level(segments=np.array([0, 1, 2, 3]), indices=np.array([1, 0, 1])),
    ],
  )
  np.testing.assert_array_equal(dense, [[0, 5, 0], [7, 0, 8]])


def compressed_columns(segments, indices):
  return [Level(size=2), Level(segments=np.array(segments), indices=np.array(indices))]


@pytest.mark.parametrize(
  "damage",
  [
    {"values": np.array([5, 7])},
    {"shape": [2, 2]},
    {"shape": [3, 3]},
    {"shape": [2, -3]},
    {"shape": [2, 3, 1]},
    {"traversal_order": [0, 0]},
    {"traversal_order": [0]},
    {"block_map": [0]},
    {"levels": [Level(size=2)]},
    {"levels": compressed_columns([0, 1, 3], [1, 0, 3])},
    {"levels": compressed_columns([0, 1, 3], [1, 0, -1])},
    {"levels": compressed_columns([0, 4, 3], [1, 0, 2])},
    {"levels": compressed_columns([1, 1, 3], [1, 0, 2])},
    {"levels": compressed_columns([0, 1, 2], [1, 0, 2])},
    {"levels": compressed_columns([0, 3], [1, 0, 2])},
    {"levels": compressed_columns([], [])},
  ],
)
def test_contradictory_metadata_is_refused(damage):
  with pytest.raises(InputError, match="sparse tensor"):
    densify(**{**rows_then_columns(), **damage})


def test_block_that_does_not_divide_its_dimension_is_refused():
  # What TFLite 2.14 writes for an int8 dense layer of 8 inputs in blocks of 16.
  with pytest.raises(InputError, match=r"shape \[2, 8\]"):
    densify(
      values=np.zeros(16, np.int8),
      shape=[2, 8],
      traversal_order=[0, 1, 2],
      block_map=[1],
      levels=[
        Level(size=2),
        Level(segments=np.array([0, 1, 1]), indices=np.array([0])),
        Level(size=16),
      ],
    )


@pytest.mark.parametrize(
  ("traversal_order", "block_map"),
  [([0, 1, 2, 3], [1, 0]), ([0, 1, 3, 2], [0, 1]), ([2, 0, 1, 3], [0, 1])],
)
def test_block_order_that_litert_reads_otherwise_is_refused(traversal_order, block_map):
  with pytest.raises(InputError, match="block map"):
    densify(np.ones(1), [1, 1], traversal_order, block_map, [Level(size=1)] * 4)


def test_absurd_size_is_refused_before_memory_is_taken():
  with pytest.raises(InputError, match="sparse tensor"):
    densify(np.zeros(1), [MAX_ELEMENTS + 1], [0], [], [Level(size=MAX_ELEMENTS + 1)])
