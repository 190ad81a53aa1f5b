"""What flags are said to take is what the code takes; every plug-in can be imported."""

import pytest
from absl import flags

from fedtiny_tff.data import augmentation, partitioners
from fedtiny_tff.data.sources import registry as sources
from fedtiny_tff.data.sources import standard_images
from fedtiny_tff.errors import InputError
from fedtiny_tff.local_training import learning_rates, optimizers
from fedtiny_tff.masked_models import compute_dtypes
from fedtiny_tff.model_structure import pruning_scope
from fedtiny_tff.models import registry as models
from fedtiny_tff.plugins import Deferred
from fedtiny_tff.protection import aggregation_config, poisoning, secure_config
from fedtiny_tff.sparsity import densities, schedules
from fedtiny_tff.strategies import base
from fedtiny_tff.strategies import registry as strategies
from pipelines.settings import choices, data_config, run_flags
from pipelines.tracking import registry as trackers
from tflite_export import targets

_KNOWN = {
  "aggregation": aggregation_config.AGGREGATIONS,
  "byzantine_attack": poisoning.ATTACKS,
  "secure_aggregation": secure_config.MODES,
  "secure_votes": secure_config.VOTES,
  "layer_densities": densities.LAYER_DENSITIES,
  "prune_for": pruning_scope.PRUNE_FOR,
  "granularity": schedules.GRANULARITIES,
  "client_optimizer": optimizers.OPTIMIZERS,
  "compute_dtype": compute_dtypes.CHOICES,
  "learning_rate_schedule": learning_rates.LEARNING_RATE_SCHEDULES,
  "partitioner": partitioners.PARTITIONERS,
  "feature_extraction": data_config.FEATURE_EXTRACTIONS,
  "augmentations": augmentation.AUGMENTATIONS,
}
_ALL = {**choices.CLOSED, **choices.OPEN, **choices.LISTS}


@pytest.mark.parametrize("name", _KNOWN)
def test_choices_are_those_of_the_code(name):
  assert set(_ALL[name]) == set(_KNOWN[name])


@pytest.mark.parametrize("name", sorted({*_ALL} & {*run_flags.names()} - {"board"}))
def test_help_names_every_choice(name):
  text = flags.FLAGS[name].help
  assert [each for each in _ALL[name] if each not in text] == []


def test_every_plug_in_is_where_it_is_said_to_be():
  for make in strategies.STRATEGIES.values():
    assert isinstance(make(), base.Strategy)
  places = [
    *(entry.network for entry in models.MODELS.values()),
    *(getattr(each.open, "func", each.open) for each in sources.SOURCES.values()),
    *targets.TARGETS.values(),
    *(each.make for each in trackers.TRACKERS.values() if not each.package),
  ]
  for place in places:
    assert isinstance(place, Deferred)
    assert callable(place.load())
  assert all(entry.block_layers for entry in models.MODELS.values())
  assert set(standard_images.STANDARD_IMAGES) <= set(sources.SOURCES)


def test_an_unknown_name_is_refused_with_the_nearest():
  with pytest.raises(InputError, match="--x must be one of one, two, got 'tow'"):
    choices.check("x", "tow", ["one", "two"])
  with pytest.raises(InputError, match=r"; did you mean fedtiny\?$"):
    choices.check("strategy", "fedtny", strategies.STRATEGIES)
