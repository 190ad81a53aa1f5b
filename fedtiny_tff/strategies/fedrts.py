"""FedRTS: masks drawn by Thompson sampling from what clients voted for so far.

"FedRTS: Federated Robust Pruning via Combinatorial Thompson Sampling", H. Huang et al.,
NeurIPS 2025, arXiv 2501.19122.

    start from the largest pre-trained weights, Beta(alpha = 1, beta = 1) for every weight
    every few rounds, in the whole model, of K weights of a layer:
      clients: vote for the K - a largest of their own |weights| and for the a largest
               |gradients| at pruned positions; send where those are
      server:  outcome X of an active weight:
                 (1 - gamma) [among the K - a largest |mean weights|] + gamma votes
               of a pruned one: (1 - gamma) / 2 + gamma votes
               alpha += lambda X, beta += lambda (1 - X)
               draw every weight from its Beta; the K largest draws are the new mask

Votes are the shares of the clients, by examples; gamma = 0.5 and lambda = 10. Clients
send no gradient: their K positions, of each layer as many as it has active weights, are
coded as those of the model are. The server knows the mask, so it can tell the two
kinds of votes apart. How many change is up to the draws; densities never do. Grown
weights start at zero. All weights of a group share one Beta.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array
from fedtiny_tff.local_training import training
from fedtiny_tff.sparsity import masks, positions
from fedtiny_tff.strategies import base, sparse
from fedtiny_tff.strategies.adjustment import (
  Adjustment,
  ClientStart,
  ServerModel,
  Trained,
  largest_active,
)
from fedtiny_tff.strategies.pruning_config import (
  check_entire,
)

# Weight of what clients vote for, against what the server sees itself.
_GAMMA = 0.5
# How much an outcome counts against the Beta(1, 1) of before.
_LAMBDA = 10.0
# Stands where clients' seeds have a round: none is below 0, so no stream is theirs.
_NO_ROUND = -1


class Votes(NamedTuple):
  """Where a client would have the active weights.

  Attributes:
    positions: uint8 [bytes], as many as are active, see `positions`.
  """

  positions: tf.Tensor


class _Grown(NamedTuple):
  """The pruned positions of largest gradient.

  Attributes:
    mask: bool [prunable weights].
  """

  mask: tf.Tensor


class ThompsonAdjustment(Adjustment):
  """Draws the mask; clients vote."""

  statistics_are_scores = False

  def __init__(self, plan: base.AdjustmentPlan):
    """Takes the layout and the number of votes; the block is the whole model."""
    check_entire(plan.spec, "fedrts")
    self._spec = plan.spec
    self._seed = plan.seed
    self._code = positions.smallest_code(plan.spec.size, plan.active_count)

  def train(self, trainer: training.LocalTrainer, start: ClientStart) -> Trained:
    """Trains as in any round, and votes."""

    def look(gradients: Sequence[tf.Tensor]) -> _Grown:
      return _Grown(self.largest_gradients(gradients, start.mask, start.counts))

    weights, metrics, grown = trainer.train_with_statistics(
      start.weights, start.mask, start.examples, start.learning_rate, look
    )
    kept = largest_active(weights.prunable, start.mask, self._spec, start.counts)
    return Trained(weights, metrics, self.pack(tf.logical_or(kept, grown.mask)))

  def pack(self, voted: tf.Tensor) -> Votes:
    """Returns what a client sends: where it has bool [prunable weights] True."""
    return Votes(self._code.encode(voted))

  def largest_gradients(
    self, gradients: Sequence[tf.Tensor], mask: tf.Tensor, counts: tf.Tensor
  ) -> tf.Tensor:
    """Marks each layer's `count` largest gradients among its pruned positions.

    Args:
      gradients: Dense gradients, one flat tensor per layer.
      mask: bool [prunable weights].
      counts: int32, groups in each layer.
    """
    marked = []
    for i, layer in enumerate(self._spec.layers):
      active = masks.group_mask(mask[self._spec.slice(i)], layer.channel_block)
      norms = masks.group_norms(gradients[i], layer.channel_block)
      grown = masks.grow_mask(norms, active, counts[i])
      marked.append(masks.spread(grown, layer.channel_block))
    return tf.concat(marked, 0)

  def statistics_specs(self) -> Votes:
    """Returns the shape of what a client sends."""
    return Votes(tf.TensorSpec([self._code.encoded_bytes], tf.uint8))

  def positions_fit(self, statistics: Votes) -> tf.Tensor:
    """Whether they are those of a mask; see the base."""
    return self._code.fits(statistics.positions)

  def zero(self) -> tf.Tensor:
    """Returns float32 zeros for every prunable weight."""
    return tf.zeros([self._spec.size], tf.float32)

  def accumulate(
    self, total: tf.Tensor, statistics: Votes, weight: tf.Tensor
  ) -> tf.Tensor:
    """Adds a client's votes."""
    places = self._code.decode(statistics.positions)[:, tf.newaxis]
    votes = tf.fill([self._code.count], weight)
    return tf.tensor_scatter_nd_add(total, places, votes)

  def apply(
    self,
    model: ServerModel,
    mean: tf.Tensor,
    counts: tf.Tensor,
    round_index: tf.Tensor,
  ) -> ServerModel:
    """Updates every Beta, and draws the mask.

    Args:
      model: After averaging; remembers alpha and beta.
      mean: Share of the clients that voted for a weight, float32 [prunable weights].
      counts: int32, groups in each layer that clients would exchange.
      round_index: int32, the round that ends; seeds the draws.
    """
    largest = largest_active(model.weights.prunable, model.mask, self._spec, counts)
    seen = tf.where(model.mask, tf.cast(largest, tf.float32), 0.5)
    outcome = (1.0 - _GAMMA) * seen + _GAMMA * mean
    alpha = model.memory[0] + _LAMBDA * outcome
    beta = model.memory[1] + _LAMBDA * (1.0 - outcome)
    mask = self.draw(alpha, beta, model.mask, round_index)
    kept = tf.logical_and(mask, model.mask)
    weights = model.weights._replace(
      prunable=tf.where(kept, model.weights.prunable, 0.0)
    )
    return ServerModel(weights, mask, (alpha, beta))

  def draw(
    self, alpha: tf.Tensor, beta: tf.Tensor, mask: tf.Tensor, round_index: tf.Tensor
  ) -> tf.Tensor:
    """Draws once for every group; as many stay in each layer as `mask` has.

    Args:
      alpha: float32 [prunable weights], equal within a group.
      beta: Likewise.
      mask: bool [prunable weights].
      round_index: int32; with the run's seed, it decides the draws.

    Returns:
      bool [prunable weights], of whole groups.
    """
    fold_in = tf.random.experimental.stateless_fold_in
    seed = fold_in(fold_in(seeds.stateless(self._seed), _NO_ROUND), round_index)
    marked = []
    for i, layer in enumerate(self._spec.layers):
      size = layer.channel_block
      alphas, betas, active = (
        masks.group_mask(vector[self._spec.slice(i)], size)
        for vector in (alpha, beta, mask)
      )
      draws = beta_draws(alphas, betas, fold_in(seed, i))
      kept = tf.math.count_nonzero(active, dtype=tf.int32)
      marked.append(masks.spread(masks.top_k_mask(draws, kept), size))
    return tf.concat(marked, 0)


def beta_draws(alpha: tf.Tensor, beta: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Draws from Beta(alpha, beta), as one of two Gamma variables over their sum.

  Args:
    alpha: float [n], positive.
    beta: float [n], positive.
    seed: int32 [2]; the same seed gives the same draws.

  Returns:
    float64 [n], in [0, 1]; a half where both variables are too small for a float.
  """
  fold_in = tf.random.experimental.stateless_fold_in
  # Float32 has few numbers next to 1, so that good weights would tie.
  hits, misses = (
    tf.random.stateless_gamma(
      tf.shape(concentration),
      fold_in(seed, number),
      tf.cast(concentration, tf.float64),
      dtype=tf.float64,
    )
    for number, concentration in enumerate((alpha, beta))
  )
  total = hits + misses
  return tf.where(total > 0.0, tf.math.divide_no_nan(hits, total), 0.5)


class FedRTS(sparse.AdjustingStrategy):
  """Masks by combinatorial Thompson sampling."""

  name = "fedrts"
  citation = "FedRTS (arXiv 2501.19122)"
  granularity = "entire"

  def adjustment(self, plan: base.AdjustmentPlan) -> ThompsonAdjustment:
    """Draws the mask from what clients voted for."""
    return ThompsonAdjustment(plan)

  def initial_memory(self, mask: Array) -> tuple[Array, ...]:
    """Returns alpha and beta of every weight: 1 and 1."""
    return np.ones(mask.shape, np.float32), np.ones(mask.shape, np.float32)
