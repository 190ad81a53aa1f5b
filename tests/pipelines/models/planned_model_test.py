"""What the flags leave to prune, and which models XNNPACK on ARM would refuse."""

import dataclasses
import re

import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base
from pipelines import stages
from pipelines.apps.progress import Progress
from pipelines.models import planned_model
from pipelines.runs.run_directory import RunDirectory
from pipelines.training import experiments
from tests.pipelines import support
from tflite_export.conversion import convert
from tflite_export.xnnpack import eligibility

layers = tf.keras.layers
_MOBILE = {
  "model": "mobilenet_v1_sparse",
  "width": 0.25,
  "prune_for": "xnnpack",
  "target_density": 0.1,
}


def _config(**changes):
  return support.make_config(**(_MOBILE | changes))


def _find(config, shape=(8, 8, 1)):
  return planned_model.find_model(config, shape, 10, base.Strategy())


def _network(pad=1, pool="mean", channels=3, extra=None):
  """Makes a builder of the smallest network that qualifies, or nearly does."""

  def build():
    image = layers.Input((16, 16, channels))
    x = layers.ZeroPadding2D(pad)(image)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="stem")(x)
    x = layers.Conv2D(16, 1, name="first")(x)
    if extra is not None:
      x = extra(x)
    x = layers.Conv2D(32, 1, activation="relu", name="second")(x)
    end = layers.GlobalAveragePooling2D() if pool == "mean" else layers.Flatten()
    x = end(x)
    return tf.keras.Model(image, layers.Dense(10, name="head")(x))

  return build


def _obstacle(build, density=0.1):
  made = definition.define_model("own", build)
  spec = made.spec.restricted_to({"first", "second"})
  return planned_model._obstacle(dataclasses.replace(made, spec=spec), density)


class TestFindModel:
  def test_by_default_everything_is_pruned_in_single_weights(self):
    found = _find(support.make_config())
    assert len(found.spec.layers) == 5
    assert set(found.spec.channel_blocks) == {1}

  def test_blocks_and_purpose_and_granularity_together(self):
    found = _find(_config(channel_block=4, granularity="entire"))
    assert found.spec.blocks == (tuple(range(13)),)
    assert set(found.spec.channel_blocks) == {4}
    assert found.spec.layers[0].shape == (1, 1, 8, 16)

  def test_blocks_go_with_every_model(self):
    found = _find(support.make_config(channel_block=4))
    # 10 classes have pairs, but no fours.
    assert found.spec.channel_blocks == (4, 4, 4, 4, 2)

  def test_a_model_with_nothing_to_prune_for_it_is_refused(self):
    said = (
      "--prune_for=xnnpack: --model=digits_cnn would not run sparse on ARM: .*no "
      "prunable 1×1 convolution of stride 1.*: mobilenet_v1_sparse, mobilenet_v2_sparse$"
    )
    with pytest.raises(InputError, match=said):
      _find(_config(model="digits_cnn"))


class TestDensity:
  def test_the_largest_that_works_does_and_the_next_does_not(self):
    made = definition.define_model("own", _network())
    spec = made.spec.restricted_to({"first", "second"})
    # Of 8 · 16 + 16 · 32 = 640 weights 213 may stay: 0.3328 of them.
    with pytest.raises(InputError, match=r"that works is 0\.3328$"):
      planned_model._check_density(0.335, spec)
    planned_model._check_density(0.3328, spec)
    # What the rule says of the converted file is the same.
    assert _obstacle(_network(), 0.3328) == ""
    assert "not more than two thirds" in _obstacle(_network(), 214 / 640)

  @pytest.mark.parametrize(
    ("size", "density", "proposed"),
    [
      # 33 of 100 leave 67, which is more than two thirds of 100; 34 do not.
      (100, 0.34, "0.3300"),
      (100, 1.0, "0.3300"),
      # A third of 99 leaves exactly two thirds, which is not more.
      (99, 0.3334, "0.3232"),
      (8, 0.4, "0.2500"),
    ],
  )
  def test_by_hand(self, size, density, proposed):
    spec = spec_lib.PrunableSpec((spec_lib.LayerSpec("one", (1, 1, 1, size)),), ((0,),))
    planned_model._check_density(float(proposed), spec)
    with pytest.raises(InputError, match=f"that works is {re.escape(proposed)}$"):
      planned_model._check_density(density, spec)

  def test_too_few_weights_for_any_density(self):
    spec = spec_lib.PrunableSpec((spec_lib.LayerSpec("one", (1, 1, 2, 4), 4),), ((0,),))
    with pytest.raises(InputError, match="have only 8 weights, too few"):
      planned_model._check_density(0.1, spec)


class TestObstacle:
  def test_none_for_a_network_that_qualifies(self):
    assert _obstacle(_network()) == ""

  @pytest.mark.parametrize(
    ("network", "said"),
    [
      ({"channels": 1}, "3×3 convolution on 1 input channels, not 3; as the first"),
      ({"pad": 0}, "3×3 convolution not padded by 1 all around; use ZeroPadding2D"),
      (
        {"pool": "flatten"},
        "nothing near it is a spatial mean at the end; end in Global",
      ),
      # What follows the stem would be read in the wrong order.
      (
        {"extra": layers.MaxPooling2D()},
        r"operator 3 \(CONV_2D\) leaves the sparse part",
      ),
      # Its moving statistics are as new: nothing may be folded away for that.
      (
        {"extra": lambda x: layers.BatchNormalization()(layers.ReLU()(x))},
        r"operator 3 \(CONV_2D\) leaves the sparse part",
      ),
    ],
    ids=["grey", "not_padded", "flatten", "max_pool", "batch_norm_after_relu"],
  )
  def test_the_rule_that_fails_is_named(self, network, said):
    assert re.search(said, _obstacle(_network(**network)))

  def test_weights_that_nobody_prunes_count_as_well(self):
    # 128 and 512 weights are pruned, 8 × 128 + 128 × 16 of the separable are not.
    def separable(x):
      return layers.SeparableConv2D(128, 3, padding="same", name="own")(x)

    assert "not more than two thirds" in _obstacle(_network(extra=separable))

  def test_the_refusal_names_model_and_mend(self):
    config = _config(model="mobilenet_v1_025", width=1.0)
    found = planned_model.find_model(config, (32, 32, 3), 10, base.Strategy())
    said = (
      "--model=mobilenet_v1_025 would not.*stride-2 SAME padding; use ZeroPadding2D"
    )
    with pytest.raises(InputError, match=said):
      planned_model.check_purpose(config, found)

  def test_other_purposes_are_not_checked(self):
    config = _config(prune_for="any", target_density=0.9, model="digits_cnn")
    planned_model.check_purpose(config, _find(config))

  def test_a_strategy_that_prunes_nothing_is_refused(self):
    config = _config(strategy="fedavg")
    with pytest.raises(InputError, match="--strategy=fedavg leaves the model dense"):
      planned_model.check_purpose(config, _find(config), is_sparse=False)


@pytest.mark.parametrize(
  ("model", "channel_block"),
  [
    ("mobilenet_v1_sparse", 2),
    pytest.param("mobilenet_v2_sparse", 4, marks=pytest.mark.slow),
  ],
)
def test_models_that_are_named_qualify_by_blocks(model, channel_block):
  config = _config(model=model, channel_block=channel_block)
  found = _find(config)
  stand_in = planned_model.stand_in(found, config.target_density)
  report = eligibility.inspect(convert.convert(stand_in, "fp32_sparse"))
  assert report.eligible
  assert report.sparse_macs == report.macs > 0
  wanted = set(found.spec.channel_blocks)
  assert {op.block for op in report.ops if op.macs} == wanted
  assert max(wanted) == channel_block


class TestWhenItIsChecked:
  """Once, when a run is planned; not when it goes on."""

  @pytest.fixture(name="checked")
  def fixture_checked(self, monkeypatch):
    checked = []
    monkeypatch.setattr(
      planned_model, "check_purpose", lambda *arguments: checked.append(arguments)
    )
    return checked

  def test_a_new_plan_is(self, checked):
    experiments.plan_experiment(_config())
    assert [strategy for _, _, strategy in checked] == [True]

  def test_a_run_that_has_begun_is_not(self, checked):
    found = experiments.plan_experiment(_config(), is_begun=True)
    assert not checked
    assert len(found.definition.spec.layers) == 13

  def test_stages_tell_the_two_apart(self, monkeypatch, tmp_path):
    begun = []

    def plan(config, folder, progress, *, is_begun):
      begun.append(is_begun)
      raise InputError("enough")

    monkeypatch.setattr(experiments, "plan_experiment", plan)
    config = _config(output_dir=str(tmp_path / "run"))
    run = RunDirectory(tmp_path / "run")
    for claim in (False, True):
      if claim:
        run.claim(config)
      with pytest.raises(InputError, match="enough"):
        stages.train(config, run, Progress())
    assert begun == [False, True]
