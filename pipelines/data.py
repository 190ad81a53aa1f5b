"""Tells what is in a dataset and who would get what of it; nothing is trained."""

import json
import pathlib
from typing import Optional

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.apps import app
from pipelines.settings import data_flags, run_flags
from pipelines.settings.format_flag import FORMAT

_SUMMARY = """
Tells what is in a dataset, what of it cannot be used, and who gets what of it:
classes, clients, sizes, duplicates, ranges. Nothing is trained, and nothing written but pictures.

  python -m pipelines.data --dataset=csv --data_dir=windows.csv --num_clients=0
  python -m pipelines.data --dataset=digits --num_clients=10 --plots_dir=plots

Examples are shared out as in a run with these flags. Records that cannot be used are
left out and named; with --on_bad_record=fail given, the first one ends it, as it would
end a run. Of models, only autoencoder matters: nobody gets its anomalies. Other flags
of a run are allowed and have no influence.
"""

_PLOTS_DIR = flags.DEFINE_string(
  "plots_dir",
  None,
  "Folder for pictures: who holds what (heat map and bars), sizes of clients, some "
  "examples of each class. Without it, none are drawn.",
)

_GROUPS = {
  **data_flags.GROUPS,
  "Run": ["model", "seed"],
  "Output": ["format", "plots_dir"],
}


def _plots_folder() -> Optional[pathlib.Path]:
  if not _PLOTS_DIR.value:
    return None
  folder = pathlib.Path(_PLOTS_DIR.value)
  if folder.exists() and not folder.is_dir():
    raise InputError(f"--plots_dir={folder}: is not a folder; name another one")
  return folder


def main() -> Optional[int]:
  """Reads the dataset, draws and prints."""
  from pipelines.apps.progress import Progress
  from pipelines.settings import flag_values

  flag_values.check_flags()
  progress = Progress()
  with progress.loading():
    from pipelines.apps import files
    from pipelines.datasets import data_reading
    from pipelines.settings import config as config_lib
    from pipelines.settings import data_config

  values = {name: flags.FLAGS[name].value for name in run_flags.names()}
  # Nobody takes part in a round here.
  values["clients_per_round"] = 0
  # Prepared data have no bad records left, and no run skips any.
  is_prepared = values["dataset"] == data_config.PREPARED
  if not (flags.FLAGS["on_bad_record"].present or is_prepared):
    values["on_bad_record"] = "skip"
  config = config_lib.make_config(values)
  folder = _plots_folder()
  found = data_reading.read(config, progress, keeps_examples=folder is not None)
  document = found.document()
  pictures: list[pathlib.Path] = []
  if folder is not None:
    from pipelines.datasets import data_figures

    files.make_folder(folder, "plots_dir")
    samples = found.observation.samples()
    pictures = data_figures.write(folder, found.what, samples)
  if FORMAT.value == "json":
    print(json.dumps({**document, "plots": list(map(str, pictures))}, indent=2))
    return None
  import rich.console

  from pipelines.datasets import data_tables

  console = rich.console.Console(highlight=False, markup=False, emoji=False)
  data_tables.print_document(document, console)
  for path in pictures:
    console.print(f"Picture: {path}", soft_wrap=True)
  return None


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, _GROUPS, goes_on=False))
