"""Who holds which training example: public samples, clients, held-out parts.

All functions are pure: labels and a seed in, index arrays out.
"""

import dataclasses
from collections.abc import Callable, Collection

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.errors import InputError

MIN_CLIENT_EXAMPLES = 10
_MAX_TRIES = 1_000
_DEVELOPMENT_SHARE = 0.1
_MIN_DEVELOPMENT = 2


def public_indices(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
  """Draws the server's public samples from the training split.

  Args:
    labels: int [N].
    per_class: Samples of each class; a rarer class gives at most half of its own.
    seed: Seed of the run.

  Returns:
    Sorted indices; they belong to no client.
  """
  generator = seeds.generator(seed, "public")
  chosen = []
  for label in np.unique(labels):
    members = generator.permutation(np.flatnonzero(labels == label))
    chosen.append(members[: min(per_class, len(members) // 2)])
  return np.sort(np.concatenate(chosen))


def dirichlet(
  labels: np.ndarray, num_clients: int, alpha: float, generator: np.random.Generator
) -> list[np.ndarray]:
  """Splits every class over the clients in Dirichlet(alpha) shares.

  Drawn again until every client has at least 10 examples. Source: FedTiny
  (arXiv 2212.01977), experiments; Hsu et al. (arXiv 1909.06335).

  Args:
    labels: int [N].
    num_clients: Number of parts.
    alpha: Concentration; small is heterogeneous.
    generator: Source of randomness.

  Returns:
    One sorted index array per client; together they cover 0..N-1 exactly once.

  Raises:
    InputError: When no draw gives every client enough examples.
  """
  if num_clients * MIN_CLIENT_EXAMPLES > len(labels):
    raise InputError(
      f"{num_clients} clients need at least {num_clients * MIN_CLIENT_EXAMPLES} "
      f"training examples, there are {len(labels)}: lower --num_clients"
    )
  for _ in range(_MAX_TRIES):
    parts: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for label in np.unique(labels):
      members = generator.permutation(np.flatnonzero(labels == label))
      shares = generator.dirichlet([alpha] * num_clients)
      cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
      for part, piece in zip(parts, np.split(members, cuts), strict=True):
        part.append(piece)
    clients = [np.sort(np.concatenate(part)) for part in parts]
    if min(len(client) for client in clients) >= MIN_CLIENT_EXAMPLES:
      return clients
  raise InputError(
    f"no Dirichlet({alpha}) split gave each of {num_clients} clients at least "
    f"{MIN_CLIENT_EXAMPLES} examples: raise --dirichlet_alpha or lower --num_clients"
  )


def iid(
  labels: np.ndarray, num_clients: int, alpha: float, generator: np.random.Generator
) -> list[np.ndarray]:
  """Deals shuffled examples in near-equal parts; `alpha` is unused."""
  del alpha
  if num_clients * MIN_CLIENT_EXAMPLES > len(labels):
    raise InputError(
      f"{num_clients} clients need at least {num_clients * MIN_CLIENT_EXAMPLES} "
      f"training examples, there are {len(labels)}: lower --num_clients"
    )
  parts = np.array_split(generator.permutation(len(labels)), num_clients)
  return [np.sort(part) for part in parts]


Partitioner = Callable[
  [np.ndarray, int, float, np.random.Generator], list[np.ndarray]
]

PARTITIONERS: dict[str, Partitioner] = {"dirichlet": dirichlet, "iid": iid}


@dataclasses.dataclass(frozen=True)
class Federation:
  """Which training example belongs to whom; all arrays are disjoint.

  Attributes:
    public: Indices of the server's samples.
    training: Per client, the examples it trains on.
    development: Per client, its held-out part: never trained on; serves
      selection and the rounds' `eval_*` figures.
  """

  public: np.ndarray
  training: tuple[np.ndarray, ...]
  development: tuple[np.ndarray, ...]


def federate(
  labels: np.ndarray,
  *,
  partitioner: str,
  num_clients: int,
  alpha: float,
  public_per_class: int,
  seed: int,
  left_out: Collection[int] = (),
) -> Federation:
  """Assigns the training split.

  Args:
    labels: Labels of the training split, int [N].
    partitioner: Key of `PARTITIONERS`.
    num_clients: Number of clients.
    alpha: Dirichlet concentration.
    public_per_class: Public samples of each class.
    seed: Seed of the run.
    left_out: Labels whose examples go to nobody.

  Returns:
    A federation; each client holds out 10 % of its examples, at least two. Indices
    are those of the whole split.

  Raises:
    InputError: When no split gives every client enough examples.
  """
  assigned = np.flatnonzero(~np.isin(labels, list(left_out)))
  if not len(assigned):
    raise InputError(
      f"none of the {len(labels)} training examples is left to be assigned: leave "
      "fewer classes out"
    )
  public = assigned[public_indices(labels[assigned], public_per_class, seed)]
  private = np.setdiff1d(assigned, public)
  parts = PARTITIONERS[partitioner](
    labels[private], num_clients, alpha, seeds.generator(seed, "partition")
  )
  training, development = [], []
  for client, part in enumerate(parts):
    shuffled = seeds.generator(seed, "development", client).permutation(private[part])
    held_out = max(_MIN_DEVELOPMENT, round(len(shuffled) * _DEVELOPMENT_SHARE))
    development.append(np.sort(shuffled[:held_out]))
    training.append(np.sort(shuffled[held_out:]))
  return Federation(public, tuple(training), tuple(development))
