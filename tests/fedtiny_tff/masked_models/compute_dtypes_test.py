"""Tests of the choice of what layers compute in."""

import pytest

from fedtiny_tff.masked_models import compute_dtypes

PLAIN = "processor : 0\nflags\t\t: fpu avx2 avx512f\nbugs\t\t: amx_bf16\n"


@pytest.mark.parametrize(
  ("facts", "wanted"),
  [
    (PLAIN, False),
    (PLAIN.replace("avx2", "avx512_bf16"), True),
    (PLAIN.replace("avx2", "amx_bf16"), True),
    # Half a name is none.
    (PLAIN.replace("avx2", "xamx_bf16"), False),
    ("", False),
  ],
)
def test_reads_the_cpu_s_flags(tmp_path, facts, wanted):
  path = tmp_path / "cpuinfo"
  path.write_text(facts)
  assert compute_dtypes.cpu_has_bfloat16(path) is wanted


def test_a_machine_that_does_not_say_has_none(tmp_path):
  assert not compute_dtypes.cpu_has_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize("native", [False, True])
def test_auto_follows_the_cpu_and_names_stay(monkeypatch, native):
  monkeypatch.setattr(compute_dtypes, "cpu_has_bfloat16", lambda: native)
  assert compute_dtypes.resolve("auto") == ("bfloat16" if native else "float32")
  assert compute_dtypes.resolve("float32") == "float32"
  assert compute_dtypes.resolve("bfloat16") == "bfloat16"


def test_an_unknown_name_is_refused():
  with pytest.raises(ValueError, match="float32, bfloat16, auto, got 'float16'"):
    compute_dtypes.resolve("float16")
