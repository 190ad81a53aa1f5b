"""Federated pruning with FedTiny (arXiv 2212.01977) on TensorFlow Federated.

The package is three rings; a module imports only from its own ring or from one
further in:

*   ring 0: everything not named below, from `sparsity/` to `devices/`;
*   ring 1, `strategies/`: one file per pruning method, hooks over ring 0;
*   ring 2, `federated/`: all that imports TensorFlow Federated.

`docs/architecture.md` has the packages in their order. Nothing here reads a flag or
decides where a file goes: that is `pipelines/`.

What a program of one's own needs is to be had from here, and loaded when it is asked
for, as TFF takes ten seconds: `fedtiny_tff.build_fedtiny` and all of `NAMES`.
"""

from fedtiny_tff.lazy_names import lazy_names

NAMES = {
  "Aggregation": "fedtiny_tff.protection.aggregation_config",
  "Candidate": "fedtiny_tff.federated.adaptive_selection.candidate",
  "FedTinyPlan": "fedtiny_tff.strategies.plan",
  "FedTinyProcess": "fedtiny_tff.federated.learning_process",
  "InputError": "fedtiny_tff.errors",
  "LocalRuntime": "fedtiny_tff.federated.runtimes.runtime",
  "OptimizerConfig": "fedtiny_tff.local_training.optimizers",
  "TrainingConfig": "fedtiny_tff.local_training.training",
  "build_fedtiny": "fedtiny_tff.federated.learning_process",
  "get_model": "fedtiny_tff.models.registry",
  "select_candidate": "fedtiny_tff.federated.adaptive_selection.candidate",
  "set_local_execution_context": "fedtiny_tff.federated.runtimes.execution",
}

__getattr__, __dir__ = lazy_names(__name__, NAMES)
