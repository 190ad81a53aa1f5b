"""Every flag of a run, in groups; the same for all apps, so one flagfile serves all.

Nothing here imports TensorFlow: `--help` must be quick. Names that come from
plug-in dicts are therefore checked when the configuration is built.
"""

from absl import flags

from pipelines.settings import data_flags, device_flags, privacy_flags

FLAGS = flags.FLAGS

# Flag name to (group, help). Order is the order of `--help`.
GROUPS: dict[str, list[str]] = {}

# Flags that say where, how loudly or how carefully, not what: a run is the same
# without them.
NOT_CONFIGURATION = (
  "output_dir", "verify_arm64", "benchmark", "benchmark_threads", "benchmark_runs",
  "tflm_dir", "workers", "trackers", "profile", "device_timeout_seconds",
)  # fmt: skip
# Flags that say how files are made from a trained model; `export` may change them.
EXPORT = (
  "targets", "model_licence", "board", "mcu_flash_kb", "mcu_ram_kb", "mcu_activation_bits",
  "mcu_float_io", "mcu_keep_names",
)  # fmt: skip
# The same, of a run only: who is asked for the ranges of integer files, and how.
CALIBRATION = (
  "calibration_source", "calibration_samples", "calibration_ranges",
  "calibration_percentile",
)  # fmt: skip
# How much is done for the accuracy of integer files of a run.
QUANTISATION = (
  "quantisation_aware", "quantisation_aware_rounds", "quantisation_aware_learning_rate",
)  # fmt: skip


def _group(group: str, names: list[str]) -> None:
  GROUPS[group] = names


def _define_model() -> None:
  flags.DEFINE_string(
    "model",
    "digits_cnn",
    "Model: resnet18, vgg11_bn, resnet8, ds_cnn, mobilenet_v1_025, "
    "mobilenet_v1_sparse, mobilenet_v2_sparse, small_cnn, digits_cnn or autoencoder; "
    "or your own: a file FILE.keras, or PACKAGE.MODULE:FUNCTION.",
  )
  flags.DEFINE_float(
    "width", 1.0, "Multiplies the model's channels and hidden units; above 0."
  )
  flags.DEFINE_integer(
    "pretrain_epochs", 3, "Dense epochs on the server's public samples."
  )
  _group("Model", ["model", "width", "pretrain_epochs"])


def _define_pruning() -> None:
  flags.DEFINE_string(
    "strategy",
    "fedtiny",
    "Method: fedtiny; dense: fedavg, small_dense (a narrower model) or "
    "federated_pruning (fewer channels, chosen anew); masks made once: snip, synflow or "
    "fl_pqsu; masks that move: prunefl, feddst, lotteryfl, fedmef or fedrts; "
    "or your own: PACKAGE.MODULE:CLASS.",
  )
  flags.DEFINE_float(
    "target_density", 0.1, "Share of the prunable weights that stay, in (0, 1]."
  )
  flags.DEFINE_integer(
    "pool_size",
    0,
    "Candidates to select from; 0 = the paper's max(1, floor(0.1/d + 0.5)).",
  )
  flags.DEFINE_string(
    "layer_densities",
    "noisy",
    "How layers share the density: uniform, erk (small layers keep more), or with "
    "candidates drawn around one of these: noisy, noisy_erk.",
  )
  flags.DEFINE_string(
    "selection",
    "adaptive",
    "How a candidate is chosen: adaptive (pooled batch-norm statistics), vanilla "
    "(pre-trained statistics) or none (the first).",
  )
  flags.DEFINE_string(
    "prune_for",
    "any",
    "What the zeros are for: any (every prunable layer) or xnnpack (only the 1×1 "
    "convolutions, whose zeros XNNPACK skips on ARM; models that qualify only).",
  )
  flags.DEFINE_integer(
    "channel_block",
    1,
    "Neighbouring output channels that masks keep or drop together at an input "
    "position: 1, 2 or 4.",
  )
  flags.DEFINE_integer("adjust_every_rounds", 10, "Rounds between mask adjustments.")
  flags.DEFINE_integer(
    "adjust_until_round", 100, "No adjustment at or after this round."
  )
  flags.DEFINE_string(
    "granularity", "block", "What one adjustment covers: block, layer or entire."
  )
  flags.DEFINE_string(
    "adjust_order",
    "backward",
    "Order of the blocks: backward (from the output) or forward.",
  )
  _group(
    "Pruning",
    [
      "strategy", "target_density", "pool_size", "layer_densities", "selection",
      "prune_for", "channel_block", "adjust_every_rounds", "adjust_until_round", "granularity", "adjust_order",
    ],
  )  # fmt: skip


def _define_training() -> None:
  flags.DEFINE_integer("rounds", 300, "Federated rounds.")
  flags.DEFINE_integer("clients_per_round", 10, "Clients drawn for each round.")
  flags.DEFINE_integer("local_epochs", 5, "Passes over a client's examples in a round.")
  flags.DEFINE_integer(
    "max_local_steps",
    0,
    "Most training steps of a client in a round, so that rounds of large clients stay "
    "short; 0 = as many as the epochs have. A round visits its examples in a new order.",
  )
  flags.DEFINE_integer("batch_size", 64, "Examples per training step.")
  flags.DEFINE_string(
    "client_optimizer", "sgd", "Client optimiser: sgd, adam or adamw."
  )
  flags.DEFINE_float("client_learning_rate", 0.05, "Client learning rate.")
  flags.DEFINE_float("client_momentum", 0.9, "Momentum of sgd, in [0, 1).")
  flags.DEFINE_float(
    "client_weight_decay", 0.0, "L2 penalty of sgd and adam; decoupled decay of adamw."
  )
  flags.DEFINE_float(
    "client_clip_norm", 0.0, "Largest global norm of a step's gradient; 0 = no limit."
  )
  flags.DEFINE_string(
    "learning_rate_schedule",
    "constant",
    "Rate over the rounds: constant, cosine or step.",
  )
  flags.DEFINE_list(
    "augmentations",
    [],
    "Random changes to training images, in order: crop, flip, cutout.",
  )
  flags.DEFINE_string(
    "compute_dtype",
    "float32",
    "What clients compute in: float32, bfloat16, or auto (bfloat16 where the CPU has "
    "AMX or AVX512-BF16). Weights, masks, statistics and sums stay float32.",
  )
  flags.DEFINE_integer("seed", 0, "Seed of all randomness; same seed, same bytes.")
  flags.DEFINE_integer(
    "eval_every_rounds", 1, "Rounds between evaluations on the clients' held-out parts."
  )
  flags.DEFINE_integer(
    "early_stopping",
    0,
    "Ends after so many rounds without a lower loss on held-out parts, counted from the "
    "mask's last adjustment; the last model is taken; 0 = all rounds.",
  )
  flags.DEFINE_boolean(
    "dense_baseline",
    True,
    "Also run dense FedAvg for the same rounds, for the report's comparison.",
  )
  _group(
    "Training",
    [
      "rounds", "clients_per_round", "local_epochs", "max_local_steps", "batch_size",
      "client_optimizer",
      "client_learning_rate", "client_momentum", "client_weight_decay",
      "client_clip_norm", "learning_rate_schedule", "augmentations", "compute_dtype", "seed",
      "eval_every_rounds", "early_stopping", "dense_baseline",
    ],
  )  # fmt: skip


def _define_clients() -> None:
  flags.DEFINE_float(
    "client_dropout", 0.0, "Chance that a client drawn for a round reports nothing."
  )
  flags.DEFINE_float(
    "client_stragglers", 0.0, "Chance that it reports when the round is over."
  )
  flags.DEFINE_integer(
    "min_reports",
    1,
    "Reports that a round needs; with fewer that count it is repeated with other "
    "clients.",
  )
  flags.DEFINE_string(
    "aggregation",
    "mean",
    "How reports are put together: mean (weighed by examples), robust (TFF's zeroing "
    "and clipping around it), trimmed_mean or median (of every coordinate).",
  )
  flags.DEFINE_float(
    "trim_share", 0.2, "Of the clients, left out on either side by trimmed_mean."
  )
  flags.DEFINE_float(
    "byzantine_fraction",
    0.1,
    "Of the clients, how many misbehave in a simulated attack.",
  )
  flags.DEFINE_string(
    "byzantine_attack",
    "none",
    "What they do: none, sign_flip (send the opposite of what they learned), "
    "label_flip (learn the labels in reverse), random_pairs (vote loudly for random "
    "weights).",
  )
  _group(
    "Clients that misbehave",
    [
      "client_dropout", "client_stragglers", "min_reports", "aggregation", "trim_share",
      "byzantine_fraction", "byzantine_attack",
    ],
  )  # fmt: skip


def _define_machines() -> None:
  flags.DEFINE_list(
    "workers",
    [],
    "Workers that compute the clients' work, host:port each, started elsewhere with "
    "`python -m pipelines.worker`; none = one of our own. They read the run's data at "
    "the same path. The result is the same; docs/several_machines.md.",
  )
  _group("Several machines", ["workers"])


def _define_calibration() -> None:
  flags.DEFINE_string(
    "calibration_source",
    "public",
    "Who gives the activation ranges of integer files: public (the server's samples; "
    "without any, the clients) or clients (minima, maxima and counts by a TFF "
    "computation; their data stay where they are).",
  )
  flags.DEFINE_integer(
    "calibration_samples",
    0,
    "Samples that count: so many of the server's, or of each client; 0 = all.",
  )
  flags.DEFINE_string(
    "calibration_ranges", "minmax", "Range of an activation: minmax or percentile."
  )
  flags.DEFINE_float(
    "calibration_percentile",
    99.99,
    "Where percentile cuts the upper tail, and 100 minus it the lower; in (50, 100].",
  )
  _group("Calibration", list(CALIBRATION))


def _define_quantisation() -> None:
  flags.DEFINE_string(
    "quantisation_aware",
    "auto",
    "Training with int8 rounding before integer files are made: auto (by the clients, "
    "where quantising afterwards costs more than a point on their held-out parts), "
    "never, always, or public (on the server's samples). The better model is taken.",
  )
  flags.DEFINE_integer(
    "quantisation_aware_rounds",
    5,
    "Federated rounds of it; public: times --local_epochs, its epochs.",
  )
  flags.DEFINE_float(
    "quantisation_aware_learning_rate",
    0.0,
    "Client learning rate of it; 0 = a tenth of the last round's, and no less than a "
    "hundredth of --client_learning_rate.",
  )
  _group("Quantisation", list(QUANTISATION))


def _define_microcontroller() -> None:
  flags.DEFINE_string(
    "board", "", "Board whose flash and RAM are the budgets; a wrong name lists all."
  )
  flags.DEFINE_integer(
    "mcu_flash_kb",
    0,
    "Flash for the model and its arrays, in 1,024 bytes; 0 = the board's, or no limit. "
    "Training takes the largest density up to --target_density that fits.",
  )
  flags.DEFINE_integer(
    "mcu_ram_kb",
    0,
    "RAM for the tensor arena, likewise. As many layers are stored sparse as can be "
    "decoded in it, those that save most first.",
  )
  flags.DEFINE_float(
    "mcu_density_limit",
    0.0,
    "For run.flags: the --target_density that was given before one was chosen for the "
    "budgets; 0 = none was.",
  )
  flags.DEFINE_integer(
    "mcu_activation_bits", 8, "Bits of activations: 8, or 16 (weights have 8)."
  )
  flags.DEFINE_boolean(
    "mcu_float_io", False, "Input and output of the file in float32, not in integers."
  )
  flags.DEFINE_boolean(
    "mcu_keep_names", False, "Keep names, signatures and metadata, which TFLM ignores."
  )
  flags.DEFINE_string(
    "tflm_dir",
    None,
    "Checkout of TFLM, with its downloads, to compile the C++ example against; without "
    "it, stand-ins for the headers are taken.",
  )
  _group(
    "Microcontroller",
    [
      "board", "mcu_flash_kb", "mcu_ram_kb", "mcu_density_limit", "mcu_activation_bits",
      "mcu_float_io", "mcu_keep_names", "tflm_dir",
    ],
  )  # fmt: skip


def _define_output() -> None:
  flags.DEFINE_string(
    "output_dir", None, "Run directory: made, or continued if it exists."
  )
  flags.DEFINE_list(
    "targets", ["android", "mcu"], "What to export: android, mcu, device_client."
  )
  flags.DEFINE_boolean(
    "verify_arm64",
    False,
    "Also run every Android file in LiteRT under emulated ARM64 (`make arm64` sets it up).",
  )
  flags.DEFINE_boolean(
    "benchmark",
    False,
    "Also time every Android file on this machine, dense and sparse in turn.",
  )
  flags.DEFINE_integer("benchmark_threads", 1, "Threads of the timed interpreters.")
  flags.DEFINE_integer("benchmark_runs", 50, "Timed inferences of each file.")
  flags.DEFINE_string(
    "model_licence", "not stated", "Licence of the model, for its files and its card."
  )
  _group(
    "Output",
    [
      "output_dir", "targets", "verify_arm64", "benchmark", "benchmark_threads",
      "benchmark_runs", "model_licence",
    ],
  )  # fmt: skip


def _define_watching() -> None:
  flags.DEFINE_list(
    "trackers",
    ["tensorboard", "jsonl"],
    "Where rounds are told beside metrics.csv: tensorboard, jsonl, mlflow, wandb.",
  )
  flags.DEFINE_integer(
    "profile",
    0,
    "Rounds to profile: profile/ then has TensorFlow's profile, and a table tells where "
    "their time goes.",
  )
  _group("Watching", ["trackers", "profile"])


data_flags.define()
GROUPS.update(data_flags.GROUPS)
_define_model()
_define_pruning()
_define_training()
_define_clients()
privacy_flags.define()
GROUPS.update(privacy_flags.GROUPS)
_define_machines()
device_flags.define()
GROUPS.update(device_flags.GROUPS)
_define_calibration()
_define_quantisation()
_define_microcontroller()
_define_watching()
_define_output()


def names() -> list[str]:
  """Names every flag of a run, in the order of `--help`."""
  return [name for group in GROUPS.values() for name in group]
