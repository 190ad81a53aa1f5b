"""VGG11-BN of the paper: layers, sizes and blocks."""

from tests.fedtiny_tff.models import support

_CIFAR = ((32, 32, 3), 10)
# In units of 9 * 64 * 64: convolutions 2 to 8.
_KERNEL = 36_864
_KERNELS = {"conv2": 2, "conv3": 8, "conv4": 16, "conv5": 32, "conv6": 64, "conv7": 64}


def test_it_is_the_papers():
  profile = support.profile("vgg11_bn", *_CIFAR)
  assert profile.parameters == 9_753_674
  # Stem 9*3*64; batch norm 2 * (64 + 128 + 2*256 + 4*512) = 5504; 1034 biases.
  assert profile.unpruned_parameters == 1_728 + 5_504 + 1_034
  # 32x32, 16x16, then two at each of 8x8, 4x4, 2x2; the head once.
  assert profile.macs == (
    1_728 * 1024
    + _KERNEL * (2 * 256 + (8 + 16) * 64 + (32 + 64) * 16 + (64 + 64) * 4)
    + 2 * 512 * 512 + 5_120
  )  # fmt: skip


def test_prunable_tensors_are_in_pairs():
  found = support.get_model("vgg11_bn", *_CIFAR)
  kernels = {name: count * _KERNEL for name, count in _KERNELS.items()}
  head = {"conv8": 64 * _KERNEL, "dense1": 512**2, "dense2": 512**2, "logits": 5_120}
  assert support.sizes(found) == kernels | head
  names = list(kernels | head)
  assert support.blocks(found) == tuple(zip(names[::2], names[1::2], strict=True))


def test_larger_images_are_pooled_globally():
  larger = support.profile("vgg11_bn", (95, 64, 1), 3)
  # Two channels less in the stem, seven classes less.
  assert larger.parameters == 9_753_674 - 2 * 9 * 64 - 7 * 513
  # Max-pooling rounds down: 95, 47, 23, 11, 5 by 64, 32, 16, 8, 4 positions.
  assert larger.macs == (
    9 * 64 * 95 * 64
    + _KERNEL
    * (2 * 47 * 32 + (8 + 16) * 23 * 16 + (32 + 64) * 11 * 8 + (64 + 64) * 5 * 4)
    + 2 * 512 * 512 + 512 * 3
  )  # fmt: skip


def test_width_covers_the_head():
  weights = support.sizes(support.get_model("vgg11_bn", (32, 32, 1), 2, 0.25))
  assert weights["conv2"] == 9 * 16 * 32
  assert (weights["dense1"], weights["logits"]) == (128 * 128, 256)
