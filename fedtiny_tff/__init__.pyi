# What type checkers and editors know of the names that __init__.py loads when asked.
from fedtiny_tff.aggregation_config import Aggregation as Aggregation
from fedtiny_tff.errors import InputError as InputError
from fedtiny_tff.federated.candidate import Candidate as Candidate
from fedtiny_tff.federated.candidate import select_candidate as select_candidate
from fedtiny_tff.federated.execution import (
  set_local_execution_context as set_local_execution_context,
)
from fedtiny_tff.federated.learning_process import FedTinyProcess as FedTinyProcess
from fedtiny_tff.federated.learning_process import build_fedtiny as build_fedtiny
from fedtiny_tff.federated.runtime import LocalRuntime as LocalRuntime
from fedtiny_tff.models.registry import get_model as get_model
from fedtiny_tff.optimizers import OptimizerConfig as OptimizerConfig
from fedtiny_tff.strategies.plan import FedTinyPlan as FedTinyPlan
from fedtiny_tff.training import TrainingConfig as TrainingConfig

NAMES: dict[str, str]
