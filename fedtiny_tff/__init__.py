"""Federated pruning with FedTiny (arXiv 2212.01977) on TensorFlow Federated.

The package is three rings; a module imports only from its own ring or from one
further in:

*   ring 0, TensorFlow and NumPy only: everything not named below, `models/` and `data/`
    included;
*   ring 1, `strategies/`: one file per pruning method, hooks over ring 0;
*   ring 2, `federated/`: the only modules that import TensorFlow Federated.

Nothing here reads a flag or decides where a file goes: that is `pipelines/`.

What a program of one's own needs is to be had from here, and loaded when it is asked
for, as TFF takes ten seconds: `fedtiny_tff.build_fedtiny` and all of `NAMES`.
"""

from fedtiny_tff.lazy_names import lazy_names

NAMES = {
  "Aggregation": "fedtiny_tff.aggregation_config",
  "Candidate": "fedtiny_tff.federated.candidate",
  "FedTinyPlan": "fedtiny_tff.strategies.plan",
  "FedTinyProcess": "fedtiny_tff.federated.learning_process",
  "InputError": "fedtiny_tff.errors",
  "LocalRuntime": "fedtiny_tff.federated.runtime",
  "OptimizerConfig": "fedtiny_tff.optimizers",
  "TrainingConfig": "fedtiny_tff.training",
  "build_fedtiny": "fedtiny_tff.federated.learning_process",
  "get_model": "fedtiny_tff.models.registry",
  "select_candidate": "fedtiny_tff.federated.candidate",
  "set_local_execution_context": "fedtiny_tff.federated.execution",
}

__getattr__, __dir__ = lazy_names(__name__, NAMES)
