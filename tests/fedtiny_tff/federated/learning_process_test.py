"""The learning process: TFF's shape, a loop of one's own, and what it refuses."""

import asyncio
import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import fedtiny_tff
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import runtime, worker_channel, worker_stub
from fedtiny_tff.strategies import registry

LAYERS = tf.keras.layers
TRAINING = fedtiny_tff.TrainingConfig(
  fedtiny_tff.OptimizerConfig(learning_rate=0.05), local_epochs=1, batch_size=4
)
# 20 + 12 prunable weights; an event after the second round, in the last block.
PLAN = fedtiny_tff.FedTinyPlan(
  target_density=0.5,
  rounds=3,
  adjust_every_rounds=1,
  adjust_until_round=2,
  pool_size=3,
  training=TRAINING,
)


def model_fn():
  """Five inputs, four units with batch norm, three classes."""
  return tf.keras.Sequential(
    [
      tf.keras.Input((5,)),
      LAYERS.Dense(4, use_bias=False),
      LAYERS.BatchNormalization(),
      LAYERS.ReLU(),
      LAYERS.Dense(3, activation="softmax"),
    ]
  )


def _client_data():
  generator = np.random.default_rng(2)
  return tff.simulation.datasets.TestClientData(
    {
      name: {
        "x": generator.normal(size=(count, 5)).astype(np.float32),
        "y": generator.integers(0, 3, count),
      }
      for name, count in (("ann", 9), ("ben", 6), ("cyd", 12))
    }
  )


DATA = _client_data()
DATASETS = [
  DATA.create_tf_dataset_for_client(name).batch(4) for name in DATA.client_ids
]


@pytest.fixture(name="candidate", scope="module")
def fixture_candidate(local_runtime):
  return fedtiny_tff.select_candidate(model_fn, PLAN, DATA)


@pytest.fixture(name="process", scope="module")
def fixture_process(candidate):
  return fedtiny_tff.build_fedtiny(model_fn, PLAN, candidate=candidate)


@pytest.fixture(name="run", scope="module")
def fixture_run(process):
  """The states and metrics of all rounds."""
  outputs = [tff.learning.templates.LearningProcessOutput(process.initialize(), None)]
  for _ in range(PLAN.rounds):
    outputs.append(process.next(outputs[-1].state, DATASETS))
  return outputs


def _same(left, right):
  return all(
    np.array_equal(a, b)
    for a, b in zip(tf.nest.flatten(left), tf.nest.flatten(right), strict=True)
  )


def test_type_signatures(process):
  assert isinstance(process, tff.learning.templates.LearningProcess)
  state = (
    "<weights=<prunable=float32[32],dense=float32[11],batch_norm_mean=float32[4],"
    "batch_norm_variance=float32[4]>,mask=bool[32],round_index=int32,memory=<>,"
    "aggregation=<>>"
  )
  metrics = (
    "<distributor=<bytes_per_client=int64>,"
    "client_work=<train=<loss=float32,accuracy=float32,num_examples=float32>>,"
    "aggregator=<accepted=int32,not_finite=int32,wrong_count=int32,outlandish=int32,"
    "bytes_per_client=int64>,"
    "finalizer=<density=float32,dropped=int32,grown=int32,adjusted_block=int32,"
    "layer_density=float32[2]>>"
  )
  weights = (
    "<trainable=<float32[5,4],float32[4],float32[4],float32[4,3],float32[3]>,"
    "non_trainable=<float32[4],float32[4]>>"
  )
  assert str(process.initialize.type_signature) == f"( -> {state}@SERVER)"
  assert str(process.next.type_signature) == (
    f"(<state={state}@SERVER,client_data={{<float32[?,5],int64[?]>*}}@CLIENTS> -> "
    f"<state={state}@SERVER,metrics={metrics}@SERVER>)"
  )
  assert str(process.get_model_weights.type_signature) == f"({state} -> {weights})"
  assert str(process.set_model_weights.type_signature) == (
    f"(<state={state},model_weights={weights}> -> {state})"
  )


def test_values_are_of_the_types_they_are_said_to_be(process, run):
  state_type = process.initialize.type_signature.result.member
  metrics_type = process.next.type_signature.result.metrics.member
  for output in run[1:]:
    for value, wanted in ((output.state, state_type), (output.metrics, metrics_type)):
      found = tf.nest.map_structure(
        lambda each: tff.TensorType(np.asarray(each).dtype.type, np.shape(each)), value
      )
      assert tff.types.to_type(found).is_equivalent_to(wanted)


def test_the_least_loss_is_chosen(candidate):
  assert candidate.losses.shape == candidate.accuracies.shape == (3,)
  assert candidate.chosen == np.argmin(candidate.losses)
  assert sum(mask.sum() for mask in candidate.masks.values()) == 16
  densities = candidate.layer_densities @ [20, 12] / 32
  np.testing.assert_allclose(densities, 0.5)
  # Scored, and to be trained, under the clients' batch-norm statistics.
  assert np.abs(candidate.state.weights.batch_norm_mean).max() > 0.0


def test_rounds_prune_as_planned(process, run):
  finals = [output.metrics["finalizer"] for output in run[1:]]
  assert [event.round_index for event in process.events] == [1]
  assert [each["adjusted_block"] for each in finals] == [
    -1,
    process.events[0].block,
    -1,
  ]
  moved = process.events[0].counts[0]
  assert [each["dropped"] for each in finals] == [0, moved, 0]
  assert [each["grown"] for each in finals] == [0, moved, 0]
  assert {each["density"] for each in finals} == {0.5}
  assert process.layer_names == ("dense", "dense_1")
  np.testing.assert_array_equal(run[0].state.mask, run[1].state.mask)
  changed = np.count_nonzero(run[1].state.mask != run[2].state.mask)
  assert changed == 2 * moved
  for output in run:
    assert not output.state.weights.prunable[~output.state.mask].any()


def test_metrics_count_every_client(run):
  for output in run[1:]:
    train = output.metrics["client_work"]["train"]
    assert train["num_examples"] == 27
    assert 0.0 <= train["accuracy"] <= 1.0
    assert output.metrics["aggregator"]["accepted"] == 3
    assert output.metrics["distributor"]["bytes_per_client"] > 0
  adjusting, plain = (run[i].metrics["aggregator"]["bytes_per_client"] for i in (2, 3))
  assert adjusting > plain


def test_rounds_repeat_and_depend_on_the_place_in_the_list(process, run):
  again = process.next(run[0].state, DATASETS)
  assert _same(again, run[1])
  # Unbatched, of TFF's ClientData: the same examples.
  assert _same(process.next(run[0].state, DATA), run[1])
  other = process.next(run[0].state, DATASETS[::-1])
  assert not _same(other.state, run[1].state)


def test_model_and_weights_agree(process, run):
  state = run[-1].state
  model = process.model(state)
  given = model_fn()
  process.get_model_weights(state).assign_weights_to(given)
  features = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
  np.testing.assert_allclose(tf.nn.softmax(model(features)), given(features), rtol=1e-5)
  for name, mask in process.masks(state).items():
    assert not model.get_layer(name).kernel.numpy()[~mask].any()
  weights = tff.learning.models.ModelWeights.from_model(given)
  assert _same(process.set_model_weights(state, weights), state)
  ones = tf.nest.map_structure(np.ones_like, process.get_model_weights(state))
  changed = process.set_model_weights(state, ones)
  np.testing.assert_array_equal(changed.weights.prunable, state.mask.astype(np.float32))
  np.testing.assert_array_equal(changed.mask, state.mask)


def test_evaluation_is_the_models_own(process, run):
  state = run[-1].state
  found = process.evaluate(state, DATASETS)
  batches = [batch for dataset in DATASETS for batch in dataset]
  x, y = (np.concatenate([batch[name] for batch in batches]) for name in ("x", "y"))
  quality = tf.nn.softmax(process.model(state)(x)).numpy()
  assert found["num_examples"] == 27
  assert found["accuracy"] == pytest.approx(np.mean(quality.argmax(1) == y))
  assert found["loss"] == pytest.approx(
    -np.log(quality[np.arange(27), y]).mean(), rel=1e-5
  )


def test_states_go_through_tffs_program_state_manager(process, run, tmp_path):
  manager = tff.program.FileProgramStateManager(tmp_path)
  state = run[2].state

  async def round_trip():
    await manager.save(state, 2)
    return await manager.load(2, process.initialize())

  loaded = asyncio.run(round_trip())
  assert type(loaded) is type(state)
  assert _same(loaded, state)
  assert _same(process.next(loaded, DATASETS), run[3])


def test_an_asynchronous_context_within_a_running_loop(process, run, local_runtime):
  worker = local_runtime._worker
  with worker_channel.open_channel(worker.target) as channel:
    context = tff.framework.AsyncExecutionContext(
      executor_fn=worker_stub.executor_factory(channel),
      compiler_fn=runtime._compiled,
      transform_args=tff.tensorflow.transform_args,
      transform_result=tff.tensorflow.transform_result,
    )

    async def cell():
      with tff.framework.get_context_stack().install(context):
        return process.next(run[0].state, DATASETS)

    assert _same(asyncio.run(cell()), run[1])


def test_it_is_no_part_of_other_computations(process):
  with pytest.raises(InputError, match="cannot be part of another"):

    @tff.federated_computation(process.initialize.type_signature.result)
    def outer(state):
      return process.get_model_weights(state)

  native = tff.program.NativeFederatedContext(
    tff.framework.AsyncExecutionContext(tff.framework.local_cpp_executor_factory())
  )
  with (
    tff.framework.get_context_stack().install(native),
    pytest.raises(InputError, match="in a loop of your own"),
  ):
    process.initialize()


def test_the_plan_has_an_end_and_states_are_states(process, run):
  with pytest.raises(InputError, match="state is at round 3, the plan has 3"):
    process.next(run[-1].state, DATASETS)
  for use in (
    lambda output: process.next(output, DATASETS),
    lambda output: process.evaluate(output, DATASETS),
    process.model,
    process.masks,
    process.get_model_weights,
  ):
    with pytest.raises(InputError, match="state is LearningProcessOutput"):
      use(run[1])


def test_weights_of_the_servers_own(process):
  given = model_fn()
  weights = tff.learning.models.ModelWeights.from_model(given)
  own = fedtiny_tff.build_fedtiny(model_fn, PLAN, initial_weights=weights)
  state = own.initialize()
  kernel = given.layers[0].kernel.numpy().ravel()
  np.testing.assert_array_equal(
    state.weights.prunable[:20], np.where(state.mask[:20], kernel, 0)
  )
  # By magnitude: what is kept is not smaller than what is pruned.
  assert np.abs(kernel)[state.mask[:20]].min() >= np.abs(kernel)[~state.mask[:20]].max()


def _variable_model():
  return tff.learning.models.from_keras_model(
    model_fn(),
    loss=tf.keras.losses.SparseCategoricalCrossentropy(),
    input_spec=collections.OrderedDict(
      x=tf.TensorSpec([None, 5]), y=tf.TensorSpec([None], tf.int64)
    ),
  )


def test_what_is_no_model():
  with pytest.raises(InputError, match="return the Keras model that"):
    fedtiny_tff.build_fedtiny(_variable_model, PLAN)


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({"strategy": "tiny"}, "strategy must be one of fedavg, .* got 'tiny'"),
    ({"task": "reconstruct"}, r"its output is \(None, 3\)"),
  ],
)
def test_options_that_do_not_fit(options, said):
  with pytest.raises(InputError, match=said):
    fedtiny_tff.build_fedtiny(model_fn, PLAN, **options)


def test_a_candidate_of_another_plan_or_model(candidate):
  sparser = fedtiny_tff.FedTinyPlan(target_density=0.3, rounds=3, pool_size=3)
  with pytest.raises(InputError, match="candidate keeps 16 weights"):
    fedtiny_tff.build_fedtiny(model_fn, sparser, candidate=candidate)

  def wider():
    return tf.keras.Sequential([tf.keras.Input((5,)), LAYERS.Dense(6), LAYERS.Dense(3)])

  with pytest.raises(InputError, match="another model"):
    fedtiny_tff.build_fedtiny(wider, PLAN, candidate=candidate)
  with pytest.raises(InputError, match="fl_pqsu has one candidate only"):
    fedtiny_tff.select_candidate(model_fn, PLAN, DATASETS, strategy="fl_pqsu")


@pytest.mark.parametrize(
  ("strategy", "aggregation", "most"),
  [
    ("fedtiny", fedtiny_tff.Aggregation("median", slots=2), 2),
    # It compares whole weights, for which nobody has said how many there are.
    ("feddst", fedtiny_tff.Aggregation("robust"), 0),
  ],
)
def test_more_clients_than_reports_are_held_of(
  strategy, aggregation, most, local_runtime
):
  process = fedtiny_tff.build_fedtiny(
    model_fn, PLAN, strategy=strategy, aggregation=aggregation
  )
  message = rf"^round 0 has 3 clients, its aggregation takes {most}; .* slots of"
  with pytest.raises(InputError, match=message):
    process.next(process.initialize(), DATASETS)


@pytest.mark.slow
def test_an_aggregation_that_remembers(local_runtime):
  process = fedtiny_tff.build_fedtiny(
    model_fn, PLAN, aggregation=fedtiny_tff.Aggregation("robust")
  )
  before = process.initialize()
  assert before.aggregation
  after, _ = process.next(before, DATASETS)
  assert not _same(before.aggregation, after.aggregation)
  assert process.next(after, DATASETS).state.round_index == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(registry.STRATEGIES))
def test_every_strategy_by_name(name, local_runtime):
  def of_width(width=1.0):
    return tf.keras.Sequential(
      [
        tf.keras.Input((4, 4, 2)),
        LAYERS.Conv2D(int(8 * width), 3, padding="same", use_bias=False, name="stem"),
        LAYERS.BatchNormalization(name="norm1"),
        LAYERS.ReLU(name="relu1"),
        LAYERS.Conv2D(int(16 * width), 3, use_bias=False, name="conv"),
        LAYERS.BatchNormalization(name="norm2"),
        LAYERS.ReLU(name="relu2"),
        LAYERS.GlobalAveragePooling2D(name="pool"),
        LAYERS.Dense(3, name="logits"),
      ]
    )

  generator = np.random.default_rng(1)
  data = [
    tf.data.Dataset.from_tensor_slices(
      (generator.normal(size=(9, 4, 4, 2)), generator.integers(0, 3, 9))
    )
    for _ in range(3)
  ]
  process = fedtiny_tff.build_fedtiny(
    of_width, PLAN, strategy=name, public=data[0].concatenate(data[1])
  )
  state = process.initialize()
  for _ in range(PLAN.rounds):
    state, metrics = process.next(state, data)
    assert np.isfinite(metrics["client_work"]["train"]["loss"])
    assert process.initialize.type_signature.result.member.is_assignable_from(
      tff.types.to_type(
        tf.nest.map_structure(
          lambda each: tff.TensorType(np.asarray(each).dtype.type, np.shape(each)),
          state,
        )
      )
    )
  assert 0.0 < metrics["finalizer"]["density"] <= 1.0
  assert process.evaluate(state, data)["num_examples"] == 27
  assert process.model(state)(np.zeros((1, 4, 4, 2), np.float32)).shape == (1, 3)
