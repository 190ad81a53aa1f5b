"""Who takes part in a round, who is lost on the way, and who only seems to take part.

Everything is drawn from the seed, the round and the client, so that a continued run
loses the same clients.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.errors import InputError
from fedtiny_tff.protection import aggregation_config, poisoning
from fedtiny_tff.strategies import base
from pipelines.datasets.data_folder import RunData
from pipelines.settings import config as config_lib
from pipelines.settings import privacy_plan

# Draws of clients for one round before it is given up.
MOST_ATTEMPTS = 20


class Participants(NamedTuple):
  """Clients of a round.

  Attributes:
    invited: How many were drawn.
    reporting: Those that report in time.
    dropped: How many report nothing.
    late: How many report when the round is over.
  """

  invited: int
  reporting: list[ClientReference]
  dropped: int
  late: int


def drawn(
  config: config_lib.RunConfig, data: RunData, purpose: str, *numbers: int
) -> list[int]:
  """Draws `--clients_per_round` clients for one round (or one purpose); 0 means all.

  Under differential privacy every client is drawn by itself, so that how many there are
  varies: that is what the accounting counts on.
  """
  population = len(data.references)
  if privacy_plan.is_private(config):
    generator = seeds.generator(config.seed, purpose, *numbers)
    count = config.clients_per_round or population
    most = privacy_plan.most_clients(config, population)
    chosen = np.flatnonzero(generator.random(population) < count / population)
    return chosen[:most].tolist()
  return _drawn_among(config, np.arange(population), purpose, *numbers)


def _drawn_among(
  config: config_lib.RunConfig, clients: np.ndarray, purpose: str, *numbers: int
) -> list[int]:
  generator = seeds.generator(config.seed, purpose, *numbers)
  count = min(config.clients_per_round or len(clients), len(clients))
  return sorted(generator.choice(clients, count, replace=False).tolist())


def chosen(
  config: config_lib.RunConfig, data: RunData, purpose: str, *numbers: int
) -> list[ClientReference]:
  """Draws clients as `drawn` does, and returns where their records lie."""
  return [data.reference(client) for client in drawn(config, data, purpose, *numbers)]


def of_round(
  config: config_lib.RunConfig, data: RunData, number: int, attempt: int
) -> Participants:
  """Draws the clients of a round, and loses some.

  Args:
    config: The run's flags.
    data: Its clients.
    number: The round.
    attempt: How often the round was drawn before, for want of reports.
  """
  again = (attempt,) if attempt else ()
  if privacy_plan.is_private(config):
    invited = drawn(config, data, "participants", number, *again)
  else:
    # A device may have examples to choose by alone, or may have said nothing.
    trains = np.flatnonzero(data.references[:, 2] > 0)
    invited = _drawn_among(config, trains, "participants", number, *again)
  reporting: list[ClientReference] = []
  dropped, late = 0, 0
  for client in invited:
    fate = seeds.generator(config.seed, "fate", number, attempt, client).random()
    if fate < config.client_dropout:
      dropped += 1
    elif fate < config.client_dropout + config.client_stragglers:
      late += 1
    else:
      reporting.append(data.reference(client))
  return Participants(len(invited), reporting, dropped, late)


def misses_rounds(config: config_lib.RunConfig, population: int) -> bool:
  """Whether one of all clients may ever miss a round."""
  return (
    config.clients_per_round not in (0, population)
    or config.client_dropout + config.client_stragglers > 0.0
  )


def poisoned(config: config_lib.RunConfig, data: RunData) -> poisoning.Poisoning:
  """Says which clients misbehave, and how."""
  if config.byzantine_attack == poisoning.NONE:
    return poisoning.NOBODY
  clients = poisoning.draw_clients(
    config.seed, len(data.references), config.byzantine_fraction
  )
  return poisoning.Poisoning(config.byzantine_attack, clients, data.info.num_classes)


def aggregated(
  config: config_lib.RunConfig,
  population: int,
  largest_examples: int,
  strategy: base.Strategy,
) -> aggregation_config.Aggregation:
  """Says how reports are put together.

  Args:
    config: The run's flags.
    population: All clients.
    largest_examples: Of a client.
    strategy: The method.

  Raises:
    InputError: When a server could not hold the reports that this needs, or cannot keep
      to a guarantee.
  """
  return aggregation_config.Aggregation(
    config.aggregation,
    config.trim_share,
    config.clients_per_round or population,
    privacy_plan.make_privacy(config, population, strategy),
    privacy_plan.make_secure(config, population, largest_examples),
  )


def check(
  config: config_lib.RunConfig, sizes: Iterable[int], strategy: base.Strategy
) -> None:
  """Makes sure that rounds can have as many reports as they need, and no more.

  Args:
    config: The run's flags.
    sizes: Training examples of every client.
    strategy: The method.

  Raises:
    InputError: Naming the flag.
  """
  known = list(sizes)
  population = len(known)
  aggregation = aggregated(config, population, int(max(known)), strategy)
  most = config.clients_per_round or population
  if strategy.selects:
    aggregation.of_scores(most)
  if config.min_reports > most:
    raise InputError(
      f"--min_reports={config.min_reports}, but a round has only {most} clients; lower it"
    )
