"""Writes a dataset in another form: prepared for runs, or for other tools."""

from typing import Optional

from absl import flags

from pipelines.apps import app, files
from pipelines.settings import choices, data_flags, run_flags

_SUMMARY = """
Reads a dataset and writes it in another form.

  python -m pipelines.make_dataset --dataset=csv --data_dir=windows.csv \\
    --num_clients=0 --to_format=prepared --output_dir=data/windows
  python -m pipelines.run --dataset=prepared --data_dir=data/windows --num_clients=0 ...

prepared: split over the server and the clients, as records that runs use where they
lie; a run then starts at once, however many clients there are. client_tfrecord,
client_sqlite: examples with their owners, as TFRecord files or in the layout of TFF's
SqlClientData; owners are the dataset's own, or those of --partitioner. Other flags of
a run are allowed and have no influence.
"""

_FORMATS = choices.OPEN["to_format"]

_FORMAT = flags.DEFINE_string(
  "to_format", "prepared", f"What to write: {', '.join(_FORMATS)}."
)

_GROUPS = {
  **data_flags.GROUPS,
  "Output": ["to_format", "output_dir", "seed"],
}


def main() -> Optional[int]:
  """Writes the dataset."""
  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  flag_values.check_flags()
  progress = Progress()
  values = {name: flags.FLAGS[name].value for name in run_flags.names()}
  choices.check("to_format", _FORMAT.value, _FORMATS)
  folder = files.new_folder(values["output_dir"], "output_dir")
  with progress.loading():
    from pipelines.datasets import dataset_files
    from pipelines.settings import config as config_lib

  # Nobody takes part in a round here.
  config = config_lib.make_config({**values, "clients_per_round": 0})
  written = dataset_files.WRITERS[_FORMAT.value](config, folder, progress)
  print(
    f"Written to {folder}: {written.training_examples:,} training and "
    f"{written.test_examples:,} test examples of {written.clients:,} clients"
  )
  return None


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, _GROUPS, goes_on=False))
