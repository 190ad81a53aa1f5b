"""Accuracy kept in int8: is training with quantisation needed, and is it better?

Post-training quantisation comes first. What it costs is measured on the clients'
held-out parts, by a TFF computation in which every client rounds the model as an int8
file does; the server sees sums only, and the test split is not touched. Where the cost
is too high, the clients train on for some rounds with everything rounded, and the
better of the two models is exported.
"""

import dataclasses
import hashlib
import json
import shutil
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds, tasks
from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.errors import InputError, QuantisationError
from fedtiny_tff.federated import evaluation, states
from fedtiny_tff.federated.quantisation import (
  quantisation_messages,
  quantisation_rounds,
)
from fedtiny_tff.local_training import batches, quantisation_training
from fedtiny_tff.local_training.quantisation_training import QuantisedWeights
from fedtiny_tff.masked_models import tfmot_quantisation
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.masked_models.tfmot_quantisation import Ranges
from fedtiny_tff.protection import aggregation_config
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder
from pipelines.runs import model_files, participation, runtimes, state_store
from pipelines.runs.quantisation_decision import (
  Figures,
  Quantisation,
  facts_without_figures,
  is_better,
  is_too_much,
  reason,
  shown,
)
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import config as config_lib
from tflite_export.conversion.convert_quantised import convert_quantised

LEAST_PUBLIC_EXAMPLES = 100

_DECIDING_CLIENTS = 100
_EVALUATION_BATCH = 256
# Without a rate of its own: a tenth of the last round's, which a schedule may have
# brought to nearly nothing.
_RATE_SHARE = 0.1
_LEAST_RATE_SHARE = 0.01


def check_public(config: config_lib.RunConfig, public_examples: int) -> None:
  """Refuses training on a public set that is too small for it.

  Raises:
    InputError: With `--quantisation_aware=public` and too few examples.
  """
  if config.quantisation_aware == "public" and public_examples < LEAST_PUBLIC_EXAMPLES:
    raise InputError(
      f"--quantisation_aware=public: the server has {public_examples} public examples, "
      f"needed are {LEAST_PUBLIC_EXAMPLES}; raise --public_samples_per_class, or let "
      "the clients train (always)"
    )


def quantise(
  config: config_lib.RunConfig,
  run: RunDirectory,
  data: data_folder.RunData,
  progress: Progress,
) -> Quantisation:
  """Decides what int8 files are made from; continues where it was interrupted.

  Args:
    config: The run's flags.
    run: Its directory, with a final model.
    data: Its data.
    progress: Where progress is shown.

  Raises:
    InputError: When training with quantisation was demanded and cannot be, or what is
      no fault of the model: a worker that is lost, damaged files.
  """
  mode = config.quantisation_aware
  if mode == "never":
    return Quantisation(None, facts_without_figures(mode, "Not asked for."))
  check_public(config, data.public.num_records)
  try:
    with progress.stage("export_quantisation", "int8: what quantisation costs"):
      return _Adaptation(config, run, data, progress).run()
  except QuantisationError as error:
    if mode != "auto":
      raise
    progress.say(f"int8: {error}")
    return Quantisation(None, facts_without_figures(mode, str(error)))


@dataclasses.dataclass
class _Stored:
  """Where an adaptation stands.

  Attributes:
    rounds: Finished rounds.
    quantised: Weights and ranges after them, NumPy arrays.
    figures: Name (float, post_training, quantisation_aware) to accuracy and loss.
    examples: Held-out examples that decide.
  """

  rounds: int
  quantised: QuantisedWeights
  figures: dict[str, Figures]
  examples: int


class _Adaptation:
  """Measuring and training one model."""

  def __init__(
    self,
    config: config_lib.RunConfig,
    run: RunDirectory,
    data: data_folder.RunData,
    progress: Progress,
  ):
    """Plans the model.

    Raises:
      QuantisationError: When tfmot cannot quantise it.
    """
    self._config = config
    self._data = data
    self._progress = progress
    self._model, self._masks = model_files.load(run.model)
    self._definition, self._mask = quantisation_training.as_definition(
      self._model, self._masks, model_files.read_task(run.model)
    )
    self._plan = tfmot_quantisation.plan_quantisation(self._definition)
    self._weights = quantisation_training.weights_of(self._plan, self._model)
    self._last_round = config.rounds - 1
    if config.early_stopping:
      self._last_round = run.read_report()["rounds"]["run"] - 1
    self._folder = run.state / "quantisation"
    self._store = state_store.StateStore(self._folder)
    self._rounds = quantisation_rounds.QuantisationRounds(
      self._plan,
      data.clients,
      config.training,
      active_count=int(np.count_nonzero(self._mask)),
      evaluation_batch_size=_EVALUATION_BATCH,
      seed=config.seed,
      aggregation=aggregation_config.Aggregation(
        config.aggregation,
        config.trim_share,
        config.clients_per_round or len(data.references),
      ),
    )

  @property
  def _rate(self) -> float:
    given = self._config.quantisation_aware_learning_rate
    last = self._config.learning_rate(self._last_round)
    least = _LEAST_RATE_SHARE * self._config.client_learning_rate
    return given or max(_RATE_SHARE * last, least)

  @property
  def _digest(self) -> str:
    """Names everything that decides the result, so that nothing else is continued."""
    content = hashlib.sha256()
    for part in (*self._weights, self._mask):
      content.update(np.ascontiguousarray(part).tobytes())
    on_public = self._config.quantisation_aware == "public"
    settings = [
      self._config.quantisation_aware_rounds, self._rate, on_public, self._config.seed,
      self._config.batch_size, self._config.local_epochs,
    ]  # fmt: skip
    content.update(json.dumps(settings).encode())
    return content.hexdigest()

  def _deciding_clients(self) -> list[ClientReference]:
    """Draws whose held-out parts decide, the same ones every time."""
    population = len(self._data.references)
    count = min(population, max(_DECIDING_CLIENTS, self._config.clients_per_round))
    generator = seeds.generator(self._config.seed, "quantisation decision")
    drawn = generator.choice(population, count, replace=False)
    return [self._data.reference(client) for client in sorted(drawn)]

  def run(self) -> Quantisation:
    """Measures, trains where needed, and chooses."""
    stored = self._resume()
    clients = self._deciding_clients()
    if stored is None or self._lacks_training(stored):
      with runtimes.choose(self._config):
        stored = stored or self._measured(clients)
        if self._lacks_training(stored):
          self._train(stored, clients)
    return self._chosen(stored, len(clients))

  def _wants_training(self, stored: _Stored) -> bool:
    """Whether training is demanded, or too much is lost without."""
    if self._config.quantisation_aware != "auto":
      return True
    before, after = stored.figures["float"], stored.figures["post_training"]
    return stored.examples > 0 and is_too_much(before, after)

  def _lacks_training(self, stored: _Stored) -> bool:
    return self._wants_training(stored) and "quantisation_aware" not in stored.figures

  def _resume(self) -> Optional[_Stored]:
    latest = self._store.load_latest()
    if latest is None or latest[2].get("digest") != self._digest:
      # Of another model or other flags.
      shutil.rmtree(self._folder, ignore_errors=True)
      return None
    _, arrays, document = latest
    weights = ModelWeights(*(arrays[name] for name in ModelWeights._fields))
    ranges = Ranges(arrays["minimum"], arrays["maximum"])
    figures = {name: Figures(*pair) for name, pair in document["figures"].items()}
    return _Stored(
      document["rounds"],
      QuantisedWeights(weights, ranges),
      figures,
      document["examples"],
    )

  def _save(self, stored: _Stored) -> None:
    arrays = {**stored.quantised.weights._asdict(), **stored.quantised.ranges._asdict()}
    document = {
      "digest": self._digest,
      "figures": {name: list(pair) for name, pair in stored.figures.items()},
      "examples": stored.examples,
      "rounds": stored.rounds,
    }
    # After the last round its figures make one state more.
    version = stored.rounds + ("quantisation_aware" in stored.figures)
    named = {name: np.asarray(value) for name, value in arrays.items()}
    self._store.save(version, named, document)

  def _measured(self, clients: list[ClientReference]) -> _Stored:
    """Evaluates the float model and the same one rounded, and stores both."""
    none = Ranges(
      *(np.asarray(ends) for ends in tfmot_quantisation.no_ranges(self._plan))
    )
    bare = QuantisedWeights(self._weights, none)
    state = self._packed(bare)
    ranges = Ranges(*(np.asarray(e) for e in self._rounds.observe(state, clients)))
    if not all(np.isfinite(ends).all() for ends in ranges):
      raise QuantisationError(
        "the model's activations are not finite on the clients' examples; "
        "lower --client_learning_rate and train again"
      )
    evaluate_float = evaluation.build_evaluation(
      self._definition,
      self._data.clients,
      active_count=int(np.count_nonzero(self._mask)),
      batch_size=_EVALUATION_BATCH,
    )
    sums = evaluate_float(states.SparseState(state.model, state.round_index), clients)
    quantised = QuantisedWeights(self._weights, ranges)
    figures = {
      "float": _mean_figures(sums, self._definition.task),
      "post_training": self._evaluated(quantised, clients),
    }
    stored = _Stored(0, quantised, figures, int(sums.examples))
    self._save(stored)
    return stored

  def _packed(self, quantised: QuantisedWeights) -> Any:
    return quantisation_messages.pack_state(quantised, self._mask, self._config.rounds)

  def _evaluated(
    self, quantised: QuantisedWeights, clients: list[ClientReference]
  ) -> Figures:
    sums = self._rounds.evaluate(self._packed(quantised), clients)
    return _mean_figures(sums, self._definition.task)

  def _train(self, stored: _Stored, clients: list[ClientReference]) -> None:
    """Trains what is not trained yet, evaluates it and stores all."""
    if self._config.quantisation_aware == "public":
      stored.quantised = self._trained_on_public(stored.quantised)
    else:
      self._train_in_rounds(stored)
    stored.figures["quantisation_aware"] = self._evaluated(stored.quantised, clients)
    self._save(stored)

  def _train_in_rounds(self, stored: _Stored) -> None:
    total = self._config.quantisation_aware_rounds
    with self._progress.steps("quantisation round", total, stored.rounds) as steps:
      for number in range(stored.rounds, total):
        chosen = participation.chosen(self._config, self._data, "quantisation", number)
        stored.quantised, metrics = self._rounds.run(
          stored.quantised, self._mask, chosen, self._config.rounds + number, self._rate
        )
        stored.rounds = number + 1
        self._save(stored)
        examples = max(float(metrics.examples), 1.0)
        steps.advance(f"loss {float(metrics.loss_sum) / examples:.3f}")

  def _trained_on_public(self, start: QuantisedWeights) -> QuantisedWeights:
    config, public = self._config, self._data.public
    self._progress.say(f"int8: training on {public.num_records} public samples")
    epochs = config.quantisation_aware_rounds * config.local_epochs
    training_config = dataclasses.replace(config.training, local_epochs=epochs)
    trainer = quantisation_training.QuantisedTrainer(
      self._plan, training_config, public.decode
    )
    seed = seeds.generator(config.seed, "quantisation public").integers(0, 2**31 - 1, 2)
    examples = batches.shuffled(
      public.read(0, public.num_records), epochs, tf.constant(seed, tf.int32)
    )
    trained, _ = trainer.train_quantised(
      _tensors(start), tf.constant(self._mask), examples, tf.constant(self._rate)
    )
    return QuantisedWeights(
      ModelWeights(*(vector.numpy() for vector in trained.weights)),
      Ranges(*(ends.numpy() for ends in trained.ranges)),
    )

  def _chosen(self, stored: _Stored, clients: int) -> Quantisation:
    """Takes the better model; one that cannot be converted is no choice."""
    figures = dict(stored.figures)
    if not self._wants_training(stored):
      # Trained when other flags demanded it.
      figures.pop("quantisation_aware", None)
    trained = figures.get("quantisation_aware")
    model = None
    if trained is not None and is_better(trained, figures["post_training"]):
      model = quantisation_training.finished_model(
        self._plan, stored.quantised, self._mask
      )
      # Refused here, where another model can be had, not in the exporters.
      convert_quantised(model, self._masks)
    told = reason(figures, stored.examples, model is not None)
    self._progress.say(f"int8: {told}")
    has_classes = self._definition.task.has_classes
    on_public = self._config.quantisation_aware == "public"
    facts = {
      **facts_without_figures(self._config.quantisation_aware, told),
      "chosen": "post_training" if model is None else "quantisation_aware",
      "figure": "accuracy" if has_classes else "loss",
      **{name: shown(pair) for name, pair in figures.items()},
      "clients": clients,
      "examples": stored.examples,
    }
    if trained is not None:
      facts |= {
        "rounds": stored.rounds,
        "public_examples": self._data.public.num_records if on_public else 0,
        "learning_rate": self._rate,
        "bytes_up_per_client": 0 if on_public else self._rounds.upload_bytes,
        "bytes_down_per_client": 0 if on_public else self._rounds.download_bytes,
      }
    return Quantisation(model, facts)


def _tensors(quantised: QuantisedWeights) -> QuantisedWeights:
  return QuantisedWeights(
    ModelWeights(*(tf.constant(vector) for vector in quantised.weights)),
    Ranges(*(tf.constant(ends) for ends in quantised.ranges)),
  )


def _mean_figures(sums: Any, task: tasks.Task) -> Figures:
  examples = max(float(sums.examples), 1.0)
  accuracy = float(sums.correct) / examples if task.has_classes else None
  return Figures(accuracy, float(sums.loss_sum) / examples)
