"""Ways to share training examples out among clients.

All functions are pure. A partitioner takes a request and a source of randomness, and
returns one sorted index array per client; together they cover 0..N-1 exactly once, and
each has at least 10 (`natural` differs in both). Docstrings name what Flower Datasets
(https://flower.ai/docs/datasets) calls the same, and where it differs.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError

MIN_CLIENT_EXAMPLES = 10
_MAX_TRIES = 1_000


@dataclasses.dataclass(frozen=True)
class PartitionRequest:
  """What is to be shared out, and how.

  Attributes:
    labels: int64 [N].
    owners: Natural client of each example, int32 [N], numbered from 0 by sorted id;
      None where the source does not name them.
    num_clients: Number of clients; 0 = all natural ones.
    alpha: Dirichlet concentration; small is uneven.
    shards_per_client: Shards that a client gets.
    quantity_sigma: Spread of the clients' sizes, that of the normal distribution
      whose exponentials they are.
  """

  labels: Array
  owners: Optional[Array]
  num_clients: int
  alpha: float
  shards_per_client: int = 2
  quantity_sigma: float = 1.0


Partitioner = Callable[[PartitionRequest, np.random.Generator], list[Array]]


def _check_size(request: PartitionRequest) -> None:
  """Raises InputError when there cannot be enough examples for every client."""
  clients, examples = request.num_clients, len(request.labels)
  if clients < 1:
    raise InputError(
      f"--num_clients={clients}: only --partitioner=natural knows how many there are; "
      "give a number from 1"
    )
  if clients * MIN_CLIENT_EXAMPLES > examples:
    raise InputError(
      f"{clients} clients need at least {clients * MIN_CLIENT_EXAMPLES} "
      f"training examples, there are {examples}: lower --num_clients"
    )


def iid(request: PartitionRequest, generator: np.random.Generator) -> list[Array]:
  """Deals shuffled examples in near-equal parts.

  Flower Datasets: `IidPartitioner`, which cuts without shuffling.

  Raises:
    InputError: When there are too few examples.
  """
  _check_size(request)
  order = generator.permutation(len(request.labels))
  return [np.sort(part) for part in np.array_split(order, request.num_clients)]


def dirichlet(request: PartitionRequest, generator: np.random.Generator) -> list[Array]:
  """Splits every class over the clients in Dirichlet(alpha) shares.

  Drawn again until every client has at least 10 examples. Source: FedTiny
  (arXiv 2212.01977), experiments; Hsu et al. (arXiv 1909.06335).

  Flower Datasets: `DirichletPartitioner(alpha)` with `self_balancing=False`, as its
  present default is; with True it gives nothing more to clients above the average. It
  gives up after 10 draws.

  Raises:
    InputError: When no draw gives every client enough examples.
  """
  _check_size(request)
  labels, num_clients = request.labels, request.num_clients
  for _ in range(_MAX_TRIES):
    parts: list[list[Array]] = [[] for _ in range(num_clients)]
    for label in np.unique(labels):
      members = generator.permutation(np.flatnonzero(labels == label))
      shares = generator.dirichlet([request.alpha] * num_clients)
      cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
      for part, piece in zip(parts, np.split(members, cuts), strict=True):
        part.append(piece)
    clients = [np.sort(np.concatenate(part)) for part in parts]
    if min(len(client) for client in clients) >= MIN_CLIENT_EXAMPLES:
      return clients
  raise InputError(
    f"no Dirichlet({request.alpha}) split gave each of {num_clients} clients at least "
    f"{MIN_CLIENT_EXAMPLES} examples: raise --dirichlet_alpha or lower --num_clients"
  )


def shards(request: PartitionRequest, generator: np.random.Generator) -> list[Array]:
  """Deals shards of examples sorted by label, so that clients know few classes.

  Source: McMahan et al. (arXiv 1602.05629), section 3, which deals two to each of 100
  clients.

  Flower Datasets: `ShardPartitioner(num_shards_per_partition)`, which makes all shards
  equal and leaves over what does not fill one; here, sizes differ by one at most and
  nothing is left over. Which examples of a class share a shard is drawn here as well.

  Raises:
    InputError: When there are too few examples for even the smallest shards to make
      every client large enough.
  """
  _check_size(request)
  clients, each = request.num_clients, request.shards_per_client
  if each < 1:
    raise InputError(f"--shards_per_client must be at least 1, got {each}")
  least = clients * each * -(-MIN_CLIENT_EXAMPLES // each)
  if least > len(request.labels):
    raise InputError(
      f"{clients} clients of {each} shards need at least {least} training examples, "
      f"there are {len(request.labels)}: lower --shards_per_client or --num_clients"
    )
  shuffled = generator.permutation(len(request.labels))
  order = shuffled[np.argsort(request.labels[shuffled], kind="stable")]
  cut = np.array_split(order, clients * each)
  dealt = generator.permutation(len(cut)).reshape(clients, each)
  return [np.sort(np.concatenate([cut[shard] for shard in hand])) for hand in dealt]


def apportion(weights: Array, total: int, least: int) -> Array:
  """Shares a number out in proportion to weights, by largest remainder.

  Args:
    weights: Float [n], none negative, one positive; only their ratios count.
    total: What to share out; at least `n * least`.
    least: What everybody gets; who would get less is raised to it, and the others
      share the rest in proportion.

  Returns:
    int64 [n] that adds up to `total`. Of equal remainders, the first is rounded up.
  """
  quotas = np.full(len(weights), float(least))
  free = np.ones(len(weights), bool)
  while free.any():
    rest = total - least * np.count_nonzero(~free)
    proportional = rest * (weights / weights[free].sum())
    low = free & (proportional < least)
    if not low.any():
      quotas[free] = proportional[free]
      break
    # The others' part shrinks with this, so that they may become too small as well.
    free &= ~low
  sizes: Array = np.floor(quotas).astype(np.int64)
  by_remainder = np.argsort(sizes - quotas, kind="stable")
  sizes[by_remainder[: total - sizes.sum()]] += 1
  return sizes


def quantity_skew(
  request: PartitionRequest, generator: np.random.Generator
) -> list[Array]:
  """Deals shuffled examples in parts of log-normal sizes: classes even, sizes not.

  Sizes are in proportion to exp(quantity_sigma * z), z standard normal, and at least
  10. Quantity skew is that of Li et al. (arXiv 2102.02079), who draw the shares from a
  Dirichlet distribution instead.

  Flower Datasets: nearest are `SizePartitioner`, to which sizes are given, and
  `LinearPartitioner`, `SquarePartitioner` and `ExponentialPartitioner`, whose sizes
  follow from the client's number; none of them draws sizes or shuffles.

  Raises:
    InputError: When there are too few examples.
  """
  _check_size(request)
  exponents = request.quantity_sigma * generator.standard_normal(request.num_clients)
  # Relative to the largest, so that no spread overflows.
  weights = np.exp(exponents - exponents.max())
  sizes = apportion(weights, len(request.labels), MIN_CLIENT_EXAMPLES)
  order = generator.permutation(len(request.labels))
  return [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def natural(request: PartitionRequest, generator: np.random.Generator) -> list[Array]:
  """Leaves every example with its owner; takes the first owners by number.

  Flower Datasets: `NaturalIdPartitioner(partition_by)`, which sorts ids as well but
  always takes all.

  Args:
    request: What to share out. `num_clients` 0 takes all owners.
    generator: Unused: nothing is drawn.

  Returns:
    One sorted index array per owner 0, 1, ...: all of its examples, of any number.
    Empty for a number that owns nothing, so that places stay owners' numbers.

  Raises:
    InputError: When examples have no owners, or there are fewer than asked for.
  """
  del generator
  if request.owners is None:
    raise InputError(
      "--partitioner=natural: the dataset does not say who owns its examples; use "
      "another partitioner"
    )
  counts = np.bincount(request.owners)
  if request.num_clients > len(counts):
    raise InputError(
      f"--num_clients={request.num_clients}, but dataset has only {len(counts)} "
      "clients; 0 takes all"
    )
  order = np.argsort(request.owners, kind="stable")
  ends = np.cumsum(counts)[: request.num_clients or None].tolist()
  return [order[first:last] for first, last in itertools.pairwise([0, *ends])]


PARTITIONERS: dict[str, Partitioner] = {
  "iid": iid,
  "dirichlet": dirichlet,
  "shards": shards,
  "quantity_skew": quantity_skew,
  "natural": natural,
}


def default_partitioner(has_clients: bool) -> str:
  """Returns the key of `PARTITIONERS` for a dataset that names owners, or does not."""
  return "natural" if has_clients else "dirichlet"
