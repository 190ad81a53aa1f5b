"""Tables of measurements that stand in pages of the documentation.

`python -m benchmarks.documents` prints them; a test compares them with the pages.
"""

from collections.abc import Callable
from typing import Any

from benchmarks import mcu_budgets, results_file

Rows = list[dict[str, Any]]


def _percent(share: float) -> str:
  return f"{share:.1%}".replace("%", " %")


def _device_training(rows: Rows) -> list[str]:
  return [
    f"| `{row['model']}` | {row['started_mb']:.0f} MB | {row['model_mb']:.0f} "
    f"| {row['training_mb']:.0f} | {row['adjusting_mb']:.0f} | {row['peak_mb']:.0f} "
    f"| {row['tensorflow_dense_peak_mb']:.0f} MB | {row['step_ratio']:.1f} × "
    f"| {row['update_bytes'] / 1e3:,.0f} kB | {row['dense_model_bytes'] / 1e3:,.0f} kB |"
    for row in rows
  ]


def _selection_quality(rows: Rows) -> list[str]:
  names = {"random candidate": "`none` (random)"}
  figures = ("first_round_accuracy", "tenth_round_accuracy", "test_accuracy")
  return [
    f"| {names.get(row['selection'], '`' + row['selection'] + '`')} | "
    + " | ".join(_percent(row[figure]) for figure in figures)
    + f" | {100 * row['test_accuracy_deviation']:.1f} |"
    for row in rows
  ]


def _misbehaving(rows: Rows) -> list[str]:
  what = "one_of_ten_clients"
  return [
    f"| {'nothing bad' if row[what] == 'none' else '`' + row[what] + '`'} | "
    + " | ".join(_percent(share) for name, share in row.items() if name != what)
    + " |"
    for row in rows
  ]


def _privacy(rows: Rows) -> list[str]:
  def figure(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}} "

  return [
    f"| {row['reports']} | {figure(row['epsilon'], '.2f')}"
    f"| {figure(row['noise_multiplier'], '.3f')}| {_percent(row['test_accuracy'])} "
    f"| {row['upload_bytes_per_client']:,} bytes |"
    for row in rows
  ]


# Benchmark: the page, and its rows made of the published ones.
_TABLES: dict[str, tuple[str, Callable[[Rows], list[str]]]] = {
  "device_training": ("docs/devices.md", _device_training),
  "selection_quality": ("docs/results.md", _selection_quality),
  "misbehaving": ("docs/misbehaving_clients.md", _misbehaving),
  "privacy": ("docs/privacy.md", _privacy),
}


def tables() -> dict[str, str]:
  """Returns each page's rows, lines ending in newline, by the page's path."""
  found = {
    page: "".join(f"{row}\n" for row in made(results_file.read(name).rows))
    for name, (page, made) in _TABLES.items()
  }
  return found | {"docs/microcontrollers.md": mcu_budgets.markdown()}


def main() -> None:
  """Prints all tables, each under the page that it belongs to."""
  for page, table in tables().items():
    print(f"{page}\n\n{table}")


if __name__ == "__main__":
  main()
