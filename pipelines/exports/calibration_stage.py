"""Where the activation ranges of integer files come from: samples or clients."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff import seeds
from fedtiny_tff.federated import messages
from fedtiny_tff.federated.quantisation import calibration
from fedtiny_tff.masked_models import activation_ranges as measured
from fedtiny_tff.masked_models import variable_layout
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder
from pipelines.runs import model_files, participation, runtimes
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import config as config_lib
from pipelines.settings import privacy_plan
from tflite_export.conversion import activation_graph, float_activations
from tflite_export.conversion.convert import float_file
from tflite_export.file_format.activation_ranges import ActivationRanges

# Examples a client computes at a time; has no influence on the result.
_BATCH = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
  """What exporters calibrate with.

  Attributes:
    given: Samples, float32 [N, ...]; or the ranges themselves.
    facts: A target's entry of `calibration` in `report.json`.
  """

  given: np.ndarray | ActivationRanges
  facts: dict[str, Any]

  @property
  def described(self) -> str:
    """Says in a sentence where the ranges come from."""
    facts = self.facts
    how = "minima and maxima"
    if facts["ranges"] == "percentile":
      how = f"the {facts['percentile']:g} % percentile"
    if facts["source"] == "public":
      return f"On {facts['samples']:,} of the server's public examples: {how}."
    return (
      f"On {facts['samples']:,} training examples of {facts['clients']} clients, of "
      f"which the server saw {how} per activation only."
    )


def calibrate(
  config: config_lib.RunConfig,
  run: RunDirectory,
  data: data_folder.RunData,
  progress: Progress,
) -> Calibration:
  """Gathers what the flags ask for.

  Without samples on the server, the clients are asked.

  Args:
    config: The run's flags.
    run: Its directory, with a final model.
    data: Its data.
    progress: Where progress is shown.

  Raises:
    InputError: When the activations of the model cannot be measured, or are not
      finite.
  """
  privacy_plan.check_calibration(config, data.public.num_records)
  if config.calibration_source == "clients":
    return _from_clients(config, run, data, progress)
  if not data.public.num_records:
    progress.say("no samples on the server: activation ranges come from the clients")
    return _from_clients(config, run, data, progress)
  model, _ = model_files.load(run.model)
  return from_samples(config, model, data_folder.read_all(data.public)[0], progress)


def without_samples(config: config_lib.RunConfig) -> Calibration:
  """Returns what stands for a calibration where no file has integers."""
  return Calibration(np.zeros([0], np.float32), _facts(config, "public", 0))


def from_samples(
  config: config_lib.RunConfig,
  model: tf.keras.Model,
  samples: np.ndarray,
  progress: Progress,
) -> Calibration:
  """Calibrates on samples at hand.

  Args:
    config: How many of them, and how ranges follow.
    model: The model.
    samples: float32 [N, ...], preprocessed as in training.
    progress: Where progress is shown.
  """
  rows = _chosen(config, samples)
  facts = _facts(config, "public", len(rows))
  if config.calibration_ranges == "minmax":
    return Calibration(rows, facts)
  described = f"activation ranges from {len(rows)} samples"
  with progress.stage("export_calibration", described):
    ranges = float_activations.percentile_ranges(
      float_file(model), rows, config.calibration_percentile
    )
  return Calibration(ranges, facts)


def _chosen(config: config_lib.RunConfig, samples: np.ndarray) -> np.ndarray:
  """Returns all samples, or so many of them in an order of the seed."""
  if not config.calibration_samples:
    return samples
  order = seeds.generator(config.seed, "calibration samples").permutation(len(samples))
  return samples[order[: config.calibration_samples]]


def _facts(config: config_lib.RunConfig, source: str, samples: int) -> dict[str, Any]:
  percentile = None
  if config.calibration_ranges == "percentile":
    percentile = config.calibration_percentile
  return {
    "source": source,
    "ranges": config.calibration_ranges,
    "percentile": percentile,
    "samples": samples,
    "clients": 0,
    "bytes_up_per_client": 0,
    "bytes_down_per_client": 0,
  }


def _from_clients(
  config: config_lib.RunConfig,
  run: RunDirectory,
  data: data_folder.RunData,
  progress: Progress,
) -> Calibration:
  """Asks as many clients as take part in a round."""
  clients = participation.chosen(config, data, "calibration")
  held = [int(client.training_examples) for client in clients]
  most = config.calibration_samples or max(held)
  facts = _facts(config, "clients", sum(min(count, most) for count in held))
  described = f"activation ranges from {len(clients)} clients"
  with progress.stage("export_calibration", described):
    model, masks = model_files.load(run.model)
    graph = activation_graph.activation_graph(model)
    layout, weights, mask = variable_layout.lay_out(model, masks, graph.constants)
    active = int(np.count_nonzero(mask))
    built = calibration.build_calibration(
      calibration.MeasuredModel(graph, len(graph.names), layout, active),
      data.clients,
      samples=config.calibration_samples,
      batch_size=_BATCH,
      counts=config.calibration_ranges == "percentile",
    )
    tensors = weights._replace(prunable=tf.constant(weights.prunable))
    sent = messages.pack_model(tensors, tf.constant(mask), active)
    with runtimes.choose(config):
      found = built.computation(sent, clients)
  facts |= {
    "clients": len(clients),
    "bytes_up_per_client": built.upload_bytes,
    "bytes_down_per_client": built.download_bytes,
  }
  return Calibration(_ranges(config, graph.names, found), facts)


def _ranges(
  config: config_lib.RunConfig, names: tuple[str, ...], found: Any
) -> ActivationRanges:
  """Turns what the server learnt into ranges."""
  if config.calibration_ranges == "minmax":
    return ActivationRanges(names, *(np.asarray(ends) for ends in found))
  whole = measured.Ranges(*(np.asarray(ends) for ends in found.ranges))
  # Raises what cannot be cut.
  ActivationRanges(names, *whole)
  percentile = config.calibration_percentile
  cut = measured.cut_tails(np.asarray(found.counts), whole, percentile)
  return ActivationRanges(names, *cut)
