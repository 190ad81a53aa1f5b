"""A small dense model: what sparse models of equal size must be better than.

    width = the largest at which the model has no more parameters than
            floor(density * prunable weights) + parameters that are never pruned
    pre-train it; dense FedAvg (arXiv 1602.05629)

FedTiny (arXiv 2212.01977) is compared with small dense models of another architecture;
this one has the layers of the model asked for.
"""

from fedtiny_tff.model_structure import narrowing
from fedtiny_tff.sparsity import densities
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies.pruning_config import PruningConfig


class SmallDense(base.Strategy):
  """Dense FedAvg of a narrower model; masks keep every weight of it."""

  name = "small_dense"
  citation = "dense FedAvg (arXiv 1602.05629) of a narrower model"
  is_smaller = True

  def plan_models(
    self, find: narrowing.FindModel, width: float, config: PruningConfig
  ) -> base.ModelPlan:
    """Takes the widest model with no more parameters than a sparse one has non-zero.

    Args:
      find: The architecture asked for.
      width: The width asked for.
      config: Density of the sparse model.

    Raises:
      InputError: When the narrowest model has more.
    """
    full = find(width)
    unpruned = narrowing.parameters(full) - full.spec.size
    limit = densities.total_count(full.spec, config.target_density) + unpruned
    small = narrowing.widest(find, width, narrowing.parameters, limit)
    return base.ModelPlan(full, small, small, self)
