"""Who holds which training example: public samples, clients, held-out parts.

All functions are pure: what is known of the examples and a seed in, index arrays out.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Optional

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array
from fedtiny_tff.data import partitioners
from fedtiny_tff.data.scan import SplitFacts
from fedtiny_tff.data.sources import holdout
from fedtiny_tff.errors import InputError

_DEVELOPMENT_SHARE = 0.1
_MIN_DEVELOPMENT = 2


@dataclasses.dataclass(frozen=True)
class Duplicates:
  """Examples left out because their features occur elsewhere too.

  Attributes:
    of_test: Training examples equal to a test example.
    of_public: Clients' examples equal to a public one.
    of_training: Held-out examples equal to one that a client trains on.
    overlapping: Examples that share raw values with one of another part.
  """

  of_test: int = 0
  of_public: int = 0
  of_training: int = 0
  overlapping: int = 0

  @property
  def total(self) -> int:
    """All of them."""
    return self.of_test + self.of_public + self.of_training + self.overlapping


@dataclasses.dataclass(frozen=True)
class Federation:
  """Which training example belongs to whom; all arrays are disjoint.

  Attributes:
    public: Indices of the server's samples.
    training: Per client, the examples it trains on; at least one.
    development: Per client, its held-out part: never trained on; serves
      selection and the rounds' `eval_*` figures.
    clients: Which client each is, int64: its number among the natural ones, or of
      the parts that were dealt.
    duplicates: What was left out to make the parts disjoint by content as well.
  """

  public: Array
  training: tuple[Array, ...]
  development: tuple[Array, ...]
  clients: Array
  duplicates: Duplicates = Duplicates()


@dataclasses.dataclass(frozen=True)
class FederationConfig:
  """How a training split is assigned.

  Attributes:
    partitioner: Key of `PARTITIONERS`.
    num_clients: Number of clients; 0 = all natural ones.
    alpha: Dirichlet concentration.
    shards_per_client: Shards that a client gets.
    quantity_sigma: Spread of the clients' sizes, that of the normal distribution
      whose exponentials they are.
    public_per_class: Public samples of each class.
    seed: Seed of the run.
  """

  partitioner: str
  num_clients: int
  alpha: float = 0.5
  shards_per_client: int = 2
  quantity_sigma: float = 1.0
  public_per_class: int = 5
  seed: int = 0


def public_indices(
  labels: Array, owners: Optional[Array], per_class: int, seed: int
) -> Array:
  """Draws the server's public samples from the training split.

  Args:
    labels: int [N].
    owners: int [N], who would lose them: of each, one example is spared; None where
      nobody owns them yet.
    per_class: Samples of each class; a rarer class gives at most half of its own.
    seed: Seed of the run.

  Returns:
    Sorted indices; they belong to no client.
  """
  generator = seeds.generator(seed, "public")
  spared = np.zeros(len(labels), bool)
  if owners is not None:
    spared[np.unique(owners, return_index=True)[1]] = True
  chosen = []
  for label in np.unique(labels):
    members = generator.permutation(np.flatnonzero(labels == label))
    limit = min(per_class, len(members) // 2)
    chosen.append(members[~spared[members]][:limit])
  return np.sort(np.concatenate(chosen))


def _assignable(
  train: SplitFacts, config: FederationConfig, left_out: Collection[int]
) -> Array:
  """Returns the examples that may go to anybody."""
  chosen = ~np.isin(train.labels, list(left_out))
  if (
    config.partitioner == "natural" and train.owners is not None and config.num_clients
  ):
    known = int(train.owners.max()) + 1
    if config.num_clients > known:
      raise InputError(
        f"--num_clients={config.num_clients}, but the dataset has only {known} clients; "
        "0 takes all"
      )
    # The others' examples are nobody's: the server does not see them either.
    chosen &= train.owners < config.num_clients
  assigned = np.flatnonzero(chosen)
  if not len(assigned):
    raise InputError(
      f"none of the {len(train)} training examples is left to be assigned: leave "
      "fewer classes out"
    )
  return assigned


def federate(
  train: SplitFacts,
  test_contents: Array,
  config: FederationConfig,
  left_out: Collection[int] = (),
  overlap: int = 0,
) -> Federation:
  """Assigns the training split.

  Parts are disjoint by construction, and by content: an example is left out where
  its features are also those of a test example, of a public one, or, in a held-out
  part, of one that somebody trains on. This comes last, so that it moves no other
  example.

  Args:
    train: What is known of the training split's N examples.
    test_contents: uint64, contents of the test split.
    config: How to assign them.
    left_out: Labels whose examples go to nobody.
    overlap: As `Dataset.overlap`. Where it is not 0, the last examples of each class
      are held out, and those that share raw values with another part are left out.

  Returns:
    A federation; each client holds out 10 % of its examples, at least two if it has
    three; of examples that overlap, 10 % of each class of which it has five. Indices
    are those of the whole split.

  Raises:
    InputError: When the split cannot be made.
  """
  assigned = _assignable(train, config, left_out)
  labels = train.labels
  natural = config.partitioner == "natural"
  owners = train.owners if natural else None
  public = assigned[
    public_indices(
      labels[assigned],
      None if owners is None else owners[assigned],
      config.public_per_class,
      config.seed,
    )
  ]
  private = np.setdiff1d(assigned, public)
  request = partitioners.PartitionRequest(
    labels[private],
    None if owners is None else owners[private],
    # Of natural clients only those that take part are left.
    0 if natural else config.num_clients,
    config.alpha,
    config.shards_per_client,
    config.quantity_sigma,
  )
  parts = partitioners.PARTITIONERS[config.partitioner](
    request, seeds.generator(config.seed, "partition")
  )
  training, development = [], []
  for client, part in enumerate(parts):
    trained, held_out = _cut(private[part], labels, config.seed, client, overlap)
    training.append(trained)
    development.append(held_out)
  kept = sum(map(len, training)) + sum(map(len, development))
  made = Federation(
    public,
    tuple(training),
    tuple(development),
    np.arange(len(parts)),
    Duplicates(overlapping=sum(map(len, parts)) - kept),
  )
  return disjoint(made, train, test_contents, overlap)


def disjoint(
  federation: Federation, train: SplitFacts, test_contents: Array, overlap: int
) -> Federation:
  """Makes the parts of a federation disjoint in all that they show.

  Args:
    federation: Disjoint by index.
    train: What is known of the training split's examples.
    test_contents: uint64, contents of the test split.
    overlap: As `Dataset.overlap`.

  Raises:
    InputError: When no client is left.
  """
  apart = without_overlaps(federation, train, overlap)
  made = without_duplicates(apart, train.contents, test_contents)
  left_out = apart.duplicates.overlapping
  return dataclasses.replace(
    made, duplicates=dataclasses.replace(made.duplicates, overlapping=left_out)
  )


def _cut(
  part: Array, labels: Array, seed: int, client: int, overlap: int
) -> tuple[Array, Array]:
  """Cuts a client's examples in what it trains on and what it holds out."""
  if overlap:
    # Drawn at random, nearly each would share raw values with one to train on.
    is_held_out, in_neither = holdout.held_out(
      np.zeros(len(part)), labels[part], _DEVELOPMENT_SHARE, overlap
    )
    return part[~is_held_out & ~in_neither], part[is_held_out]
  generator = seeds.generator(seed, "development", client)
  shuffled = generator.permutation(part)
  held_out = _held_out(len(shuffled))
  return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])


def _held_out(count: int) -> int:
  """Returns how many of a client's examples it holds out; one stays to train on."""
  wanted = max(_MIN_DEVELOPMENT, round(count * _DEVELOPMENT_SHARE))
  return max(min(wanted, count - 1), 0)


def without_duplicates(
  federation: Federation, contents: Array, test_contents: Array
) -> Federation:
  """Makes the parts of a federation, and the test split, disjoint by content.

  A client that is left without an example to train on is no client.

  Args:
    federation: Disjoint by index.
    contents: uint64 [N], of the training split.
    test_contents: uint64, of the test split.

  Raises:
    InputError: When no client is left.
  """
  in_test = np.isin(contents, test_contents)
  of_test = 0

  def outside_test(part: Array) -> Array:
    nonlocal of_test
    kept: Array = part[~in_test[part]]
    of_test += len(part) - len(kept)
    return kept

  public = outside_test(federation.public)
  training = [outside_test(part) for part in federation.training]
  development = [outside_test(part) for part in federation.development]
  in_public = np.isin(contents, contents[public])
  trained, of_public = _outside(training, in_public)
  held_out, more_of_public = _outside(development, in_public)
  everything = np.concatenate(trained) if trained else np.zeros(0, np.int64)
  held_out, of_training = _outside(held_out, np.isin(contents, contents[everything]))
  found = Duplicates(of_test, of_public + more_of_public, of_training)
  kept = [number for number, part in enumerate(trained) if len(part)]
  if not kept:
    raise InputError(
      "every training example occurs in the test split or among the public samples: "
      "the splits must differ"
    )
  return Federation(
    public,
    tuple(trained[number] for number in kept),
    tuple(held_out[number] for number in kept),
    federation.clients[kept],
    found,
  )


def without_overlaps(
  federation: Federation, train: SplitFacts, overlap: int
) -> Federation:
  """Leaves out what shares raw values with another part.

  Public samples stay; held-out examples stay unless they overlap with these; clients
  train on the rest.

  Args:
    federation: Disjoint by index.
    train: Labels and owners of the training split's examples.
    overlap: As `Dataset.overlap`.
  """
  if not overlap:
    return federation
  near_public = _near(federation.public, train, overlap)
  held_out, of_public = _outside(federation.development, near_public)
  near = near_public | _near(np.concatenate(held_out), train, overlap)
  trained, of_both = _outside(federation.training, near)
  return dataclasses.replace(
    federation,
    training=tuple(trained),
    development=tuple(held_out),
    duplicates=dataclasses.replace(
      federation.duplicates,
      overlapping=federation.duplicates.overlapping + of_public + of_both,
    ),
  )


def _near(chosen: Array, train: SplitFacts, overlap: int) -> Array:
  """Tells which examples share raw values with a chosen one, bool [N]."""
  owners = np.zeros(len(train), np.int64) if train.owners is None else train.owners
  near = np.zeros(len(train), bool)
  for offset in range(-overlap, overlap + 1):
    places = chosen + offset
    inside = (places >= 0) & (places < len(train)) & (offset != 0)
    here, there = chosen[inside], places[inside]
    same = (train.labels[here] == train.labels[there]) & (owners[here] == owners[there])
    near[there[same]] = True
  return near


def _outside(parts: Sequence[Array], unwanted: Array) -> tuple[list[Array], int]:
  kept = [part[~unwanted[part]] for part in parts]
  return kept, sum(map(len, parts)) - sum(map(len, kept))


def test_order(
  owners: Optional[Array], count: int, clients: Array
) -> tuple[Array, Array]:
  """Lays the test split out so that each client's own examples lie together.

  Args:
    owners: int [count]; None where nobody owns them.
    count: Test examples.
    clients: int [clients], the federation's.

  Returns:
    Index of the example in each record, int64 [count]; and where each client's lie,
    int64 [clients, 2]: first record and how many.
  """
  if owners is None:
    return np.arange(count), np.zeros((len(clients), 2), np.int64)
  order = np.argsort(owners, kind="stable")
  first = np.searchsorted(owners[order], clients, "left")
  last = np.searchsorted(owners[order], clients, "right")
  return order, np.stack([first, last - first], axis=1).astype(np.int64)
