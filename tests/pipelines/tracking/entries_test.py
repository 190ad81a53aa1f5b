"""An id is read back; a damaged one is as good as none."""

import pytest

from pipelines.tracking import entries
from tests.pipelines.tracking import told


def test_an_id_is_kept(tmp_path):
  subject = told.subject(tmp_path)
  assert entries.read(subject, "mlflow") is None
  entries.keep(subject, "mlflow", "ab12")
  assert entries.read(subject, "mlflow") == "ab12"


@pytest.mark.parametrize(
  "content",
  ["", "[]", '{"id": 3}', r'{"id": "\ud800"}', pytest.param("[" * 100_000, id="deep")],
)
def test_a_damaged_one_is_none(tmp_path, content):
  subject = told.subject(tmp_path)
  entries.keep(subject, "mlflow", "ab12")
  (tmp_path / "tracking" / "mlflow.json").write_text(content)
  assert entries.read(subject, "mlflow") is None
