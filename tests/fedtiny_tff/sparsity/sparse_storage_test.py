"""Forms of storage by hand: which is the smallest, and where that changes."""

import pytest

from fedtiny_tff.sparsity import sparse_storage
from fedtiny_tff.sparsity import spec as spec_lib


def test_bytes_by_hand():
  # 3 rows of 5, 4 non-zeros: 15 values; 4 values and 15 bits; 4 triples; 4 pairs and
  # 4 pointers.
  assert sparse_storage.kernel_bytes(3, 5, 4) == {
    "dense": 60,
    "bitmap": 16 + 2,
    "coo": 4 * 12,
    "csr": 4 * 8 + 4 * 4,
  }


@pytest.mark.parametrize(
  ("nonzero", "form", "size"),
  [
    # 512 rows of 4,608, the largest kernel of resnet18: 294,912 bytes of bitmap.
    (512 * 4608, "dense", 4 * 2_359_296),
    # 97 %: a bit for each weight is as much as the values that are left out.
    (2_359_296 - 73_728, "dense", 4 * 2_359_296),
    (2_359_296 - 73_729, "bitmap", 4 * 2_285_567 + 294_912),
    # 3.1 %: columns of 4 bytes and 513 pointers are as much as the bitmap.
    (73_728 - 513, "bitmap", 4 * 73_215 + 294_912),
    (73_728 - 514, "csr", 8 * 73_214 + 4 * 513),
    # With fewer non-zeros than pointers the pointers are not worth it.
    (513, "coo", 12 * 513),
    (514, "csr", 8 * 514 + 4 * 513),
    (0, "coo", 0),
  ],
)
def test_the_smallest_form_of_a_large_kernel(nonzero, form, size):
  assert sparse_storage.smallest_form(512, 4608, nonzero) == (form, size)


@pytest.mark.parametrize("nonzero", [-1, 16])
def test_more_than_there_are_places_is_refused(nonzero):
  with pytest.raises(ValueError, match=rf"nonzero must be in \[0, 15\], got {nonzero}"):
    sparse_storage.kernel_bytes(3, 5, nonzero)


def test_a_model_by_hand():
  layers = (
    spec_lib.LayerSpec("conv", (3, 3, 2, 4)),
    spec_lib.LayerSpec("dense", (8, 10)),
    spec_lib.LayerSpec("logits", (10, 2)),
  )
  spec = spec_lib.PrunableSpec(layers, ((0, 1, 2),))
  # conv full, 4 * 72; dense half, 4 * 40 + 80 / 8; logits one, 4 + ceil(20 / 8); and
  # 7 values that are never pruned.
  total, forms = sparse_storage.model_bytes(spec, (72, 40, 1), 7)
  assert total == 288 + 170 + 7 + 28
  assert forms == {"dense": 1, "bitmap": 2, "coo": 0, "csr": 0}


def test_the_number_of_layers_must_agree():
  spec = spec_lib.PrunableSpec((spec_lib.LayerSpec("dense", (8, 10)),), ((0,),))
  with pytest.raises(ValueError, match="zip"):
    sparse_storage.model_bytes(spec, (1, 2), 0)
