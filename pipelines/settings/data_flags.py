"""The flags that say which data, how they are read, and who gets what of them.

Nothing here imports TensorFlow: `--help` must be quick.
"""

from absl import flags

GROUPS = {
  "Data": [
    "dataset", "data_dir", "public_samples_per_class", "anomaly_classes",
    "on_bad_record",
  ],
  "Clients": [
    "partitioner", "num_clients", "dirichlet_alpha", "shards_per_client",
    "quantity_sigma", "partition_file",
  ],
  "Own data": [
    "test_share", "image_size", "image_channels", "client_separator", "feature_shape",
    "label_column", "client_column", "feature_columns", "window_rows",
    "window_stride_rows", "feature_extraction", "sample_rate_hz", "synthetic_clients",
    "synthetic_examples_per_client",
  ],
}  # fmt: skip


def define() -> None:
  """Defines them."""
  _define_data()
  _define_clients()
  _define_own_data()


def _define_data() -> None:
  flags.DEFINE_string(
    "dataset",
    "digits",
    "Dataset: digits (embedded); cifar10, cifar100, svhn or cinic10; federations of "
    "TFF: emnist or cifar100_natural; synthetic; your own: image_folder, audio_folder, csv, "
    "parquet, client_tfrecord or client_sqlite; prepared (by pipelines.make_dataset); or "
    "tfds:NAME.",
  )
  flags.DEFINE_string(
    "data_dir", None, "Folder (or file) of the dataset, where it has one."
  )
  flags.DEFINE_integer(
    "public_samples_per_class",
    5,
    "Training examples of each class that the server keeps for pre-training and "
    "calibration; no client holds them. 0 = the server has no data: nothing is "
    "pre-trained, and clients calibrate.",
  )
  flags.DEFINE_list(
    "anomaly_classes",
    [],
    "Classes that an autoencoder is to tell from the others: nobody trains on them. "
    "Empty = the dataset's last class.",
  )
  flags.DEFINE_string(
    "on_bad_record",
    "fail",
    "What to do with an example that cannot be used: fail, or skip (it is left out, "
    "counted and named in the report).",
  )


def _define_clients() -> None:
  flags.DEFINE_string(
    "partitioner",
    None,
    "How training examples go to clients: natural (by owner), dirichlet, iid, shards or "
    "quantity_skew. Default: natural where the dataset names owners, else dirichlet.",
  )
  flags.DEFINE_integer(
    "num_clients",
    10,
    "Clients in the population; natural: the first ones by sorted id, 0 = all.",
  )
  flags.DEFINE_float(
    "dirichlet_alpha", 0.5, "Concentration of the Dirichlet split; small is uneven."
  )
  flags.DEFINE_integer("shards_per_client", 2, "Shards a client gets from shards.")
  flags.DEFINE_float(
    "quantity_sigma", 1.0, "Log-normal spread of the clients' sizes in quantity_skew."
  )
  flags.DEFINE_string(
    "partition_file",
    None,
    "A partition.json of another run's data/ folder: everybody gets the same again.",
  )


def _define_own_data() -> None:
  flags.DEFINE_float(
    "test_share",
    0.2,
    "Share of each client's examples that is the test split, where there is none.",
  )
  flags.DEFINE_string(
    "image_size", None, "HEIGHTxWIDTH that images are resized to; default: their own."
  )
  flags.DEFINE_integer("image_channels", 3, "1 for grey images, 3 for colour.")
  flags.DEFINE_string(
    "client_separator",
    "",
    "What ends the owner's name at the start of each file's, as _ in ann_1.wav; empty = "
    "folders name owners, or nothing does.",
  )
  flags.DEFINE_list(
    "feature_shape", [], "Shape of an example, as 128,1,3; default: as the data say."
  )
  flags.DEFINE_string("label_column", "label", "Column of the class in a table.")
  flags.DEFINE_string("client_column", "client", "Column of the owner in a table.")
  flags.DEFINE_list("feature_columns", [], "Columns of features; default: all others.")
  flags.DEFINE_integer(
    "window_rows", 0, "Consecutive rows that make one example; 0 = each row is one."
  )
  flags.DEFINE_integer(
    "window_stride_rows", 0, "Rows from window to window; 0 = as many as it has."
  )
  flags.DEFINE_string(
    "feature_extraction", "none", "What is made of raw signals: none, log_mel or mfcc."
  )
  flags.DEFINE_integer("sample_rate_hz", 16_000, "Samples a second of raw signals.")
  flags.DEFINE_integer("synthetic_clients", 100, "Clients of --dataset=synthetic.")
  flags.DEFINE_integer(
    "synthetic_examples_per_client", 20, "Training examples of each of them."
  )
