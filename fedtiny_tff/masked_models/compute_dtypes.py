"""What layers compute in while training.

bfloat16 has float32's range and 8 bits of precision; CPUs with AMX or AVX512-BF16
multiply it several times faster. Variables, masks, batch-norm statistics, losses and
everything that is sent or aggregated stay float32.
"""

import pathlib

_CPU_FACTS = pathlib.Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})

# Name to Keras's dtype policy.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
AUTO = "auto"
CHOICES = (*POLICIES, AUTO)


def cpu_has_bfloat16(cpu_facts: pathlib.Path = _CPU_FACTS) -> bool:
  """Tells whether this CPU multiplies bfloat16 natively.

  Args:
    cpu_facts: Linux's description of the CPU; a missing one means no.
  """
  try:
    lines = cpu_facts.read_text().splitlines()
  except OSError:
    return False
  flags = next((line for line in lines if line.startswith("flags")), "")
  return not _BFLOAT16_FLAGS.isdisjoint(flags.split())


def resolve(name: str) -> str:
  """Returns a key of `POLICIES`; `auto` is bfloat16 where the CPU has it.

  Raises:
    ValueError: For a name that is not in `CHOICES`.
  """
  if name not in CHOICES:
    raise ValueError(f"compute_dtype must be one of {', '.join(CHOICES)}, got {name!r}")
  if name == AUTO:
    return "bfloat16" if cpu_has_bfloat16() else "float32"
  return name
