"""What is published about standard sets of labelled images."""

import dataclasses
from typing import Optional

SHAPE = (32, 32, 3)

_TEN_THINGS = (
  "airplane", "automobile", "bird", "cat", "deer",
  "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# The fine labels of CIFAR-100 are numbered in this order:
# https://www.cs.toronto.edu/~kriz/cifar.html
_HUNDRED_THINGS = (
  "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle",
  "bicycle", "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can",
  "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud",
  "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant",
  "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
  "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree",
  "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
  "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate",
  "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
  "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake",
  "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
  "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle",
  "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StandardImages:
  """A set of 32x32 images in colour.

  Attributes:
    class_names: One per label.
    mean: Of the training images, per channel, in units of white.
    deviation: Likewise.
    prepared_name: What tensorflow_datasets calls it; None where it has it not.
  """

  class_names: tuple[str, ...]
  mean: tuple[float, float, float]
  deviation: tuple[float, float, float]
  prepared_name: Optional[str] = None


STANDARD_IMAGES = {
  # https://github.com/kuangliu/pytorch-cifar/issues/19
  "cifar10": StandardImages(
    class_names=_TEN_THINGS,
    mean=(0.4914, 0.4822, 0.4465),
    deviation=(0.2470, 0.2435, 0.2616),
    prepared_name="cifar10",
  ),
  # https://github.com/weiaicunzai/pytorch-cifar100/blob/master/conf/global_settings.py
  "cifar100": StandardImages(
    class_names=_HUNDRED_THINGS,
    mean=(0.5071, 0.4867, 0.4408),
    deviation=(0.2675, 0.2565, 0.2761),
    prepared_name="cifar100",
  ),
  # https://albumentations.ai/docs/autoalbument/examples/svhn/
  "svhn": StandardImages(
    class_names=tuple(str(digit) for digit in range(10)),
    mean=(0.4377, 0.4438, 0.4728),
    deviation=(0.1980, 0.2010, 0.1970),
    prepared_name="svhn_cropped",
  ),
  # https://github.com/BayesWatch/cinic-10#details
  "cinic10": StandardImages(
    class_names=_TEN_THINGS,
    mean=(0.4789, 0.4723, 0.4305),
    deviation=(0.2421, 0.2383, 0.2587),
  ),
}
