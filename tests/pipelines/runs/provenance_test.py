"""What a run's model card is told."""

import pytest

from pipelines.datasets import data_stage
from pipelines.runs import provenance, quantisation_decision
from tests.pipelines import support


@pytest.fixture(name="describe")
def fixture_describe(tmp_path):
  def describe(**changes):
    made = support.make_config(**changes)
    data = data_stage.write_data(support.plan_data(made), tmp_path / "data")
    facts = quantisation_decision.facts_without_figures("never", "Not asked for.")
    quantised = quantisation_decision.Quantisation(None, facts)
    return provenance.provenance_of_run(made, data, "On 30 samples.", quantised)

  return describe


def test_a_run_is_told_by_its_flags(describe):
  found = describe(model_licence="CC0-1.0")
  assert found.name == "digits_cnn"
  assert found.licence == "CC0-1.0"
  assert found.method == (
    "FedTiny (arXiv 2212.01977) to 10 % density, selection adaptive, masks adjusted "
    "every 1 rounds until round 3."
  )
  assert "4 rounds" in found.training["Federation"]
  assert "3 of 4 clients a round" in found.training["Federation"]
  assert "Dirichlet(1) by class" in found.training["Data"]
  assert found.calibration == "On 30 samples. Not asked for."
  assert "359 examples that nothing else has seen" in found.evaluation
  assert found.feature_type == "uint8"


def test_a_dense_model_says_so(describe):
  assert describe(strategy="fedavg").method.startswith("None: dense FedAvg")


def test_a_smaller_model_says_how_small(describe):
  assert describe(strategy="federated_pruning").method == (
    "Federated Pruning (arXiv 2209.06359), its size at most that of the full model at "
    "10 % density."
  )


def test_a_method_of_the_run_s_own_is_not_imported(describe):
  assert describe(strategy="no_such_module:Method").method == (
    "no_such_module:Method, a method of the run's own, at a target density of 10 %."
  )


@pytest.mark.parametrize(
  ("model", "name"),
  [("folder/my net.keras", "my net"), ("package.module:make", "make")],
)
def test_own_models_have_short_names(describe, model, name):
  assert describe(model=model).name == name
