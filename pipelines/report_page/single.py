"""The page of one run."""

from pipelines.report_page import (
  client_sections,
  export_sections,
  mask_sections,
  numbers,
  origin_section,
  summary_section,
  training_sections,
)
from pipelines.report_page.content import Page
from pipelines.report_page.run_record import RunRecord

_SECTIONS = (
  summary_section.summary,
  training_sections.rounds,
  training_sections.selection,
  mask_sections.layers,
  mask_sections.events,
  mask_sections.masks,
  client_sections.labels,
  client_sections.accuracy,
  client_sections.confusion,
  export_sections.sizes,
  export_sections.eligible,
  export_sections.arena,
  export_sections.parity,
  summary_section.cost,
  origin_section.origin,
)


def page(run: RunRecord) -> Page:
  """Returns everything there is to say of a run."""
  settings, data = run.report["run"], run.report["dataset"]
  subtitle = (
    f"{settings['model']} on {data['clients']:,} client{'s' if data['clients'] > 1 else ''}, "
    f"{numbers.percent(run.report['density'], 2)} of the prunable weights left"
  )
  return Page(
    f"{settings['strategy']} on {data['name']}",
    subtitle,
    tuple(_tags(run)),
    tuple(_notices(run)),
    tuple(section(run) for section in _SECTIONS),
  )


def _tags(run: RunRecord) -> list[str]:
  settings = run.report["run"]
  rounds = (run.report.get("rounds") or {}).get("run", len(run.rounds))
  tags = [f"{rounds:,} rounds", f"seed {settings['seed']}"]
  shape = "×".join(map(str, run.report["dataset"]["input_shape"]))
  tags.append(f"input {shape}")
  classes = run.report["dataset"]["classes"]
  if run.has_classes:
    tags.append(f"{len(classes):,} classes")
  return tags


def _notices(run: RunRecord) -> list[str]:
  found = []
  rounds = run.report.get("rounds") or {}
  if rounds.get("stopped_early"):
    found.append(
      f"Stopped early, after {rounds['run']:,} of {rounds['planned']:,} rounds; the least held-out "
      f"loss came after round {rounds['best_round']}."
    )
  if run.report.get("privacy"):
    found.append(
      "This run is differentially private, but training curves and accuracies here are "
      "measured without noise: ε does not cover them. Think before passing the page on."
    )
  bad = run.report["dataset"].get("bad_records") or {}
  if bad.get("count"):
    found.append(f"{bad['count']:,} records could not be used and were left out.")
  return found
