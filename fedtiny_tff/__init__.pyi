# What type checkers and editors know of the names that __init__.py loads when asked.
from fedtiny_tff.errors import InputError as InputError
from fedtiny_tff.federated.adaptive_selection.candidate import Candidate as Candidate
from fedtiny_tff.federated.adaptive_selection.candidate import (
  select_candidate as select_candidate,
)
from fedtiny_tff.federated.learning_process import FedTinyProcess as FedTinyProcess
from fedtiny_tff.federated.learning_process import build_fedtiny as build_fedtiny
from fedtiny_tff.federated.runtimes.execution import (
  set_local_execution_context as set_local_execution_context,
)
from fedtiny_tff.federated.runtimes.runtime import LocalRuntime as LocalRuntime
from fedtiny_tff.local_training.optimizers import OptimizerConfig as OptimizerConfig
from fedtiny_tff.local_training.training import TrainingConfig as TrainingConfig
from fedtiny_tff.models.registry import get_model as get_model
from fedtiny_tff.protection.aggregation_config import Aggregation as Aggregation
from fedtiny_tff.strategies.plan import FedTinyPlan as FedTinyPlan

NAMES: dict[str, str]
