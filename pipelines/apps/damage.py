"""Reading what may be damaged, or come from anybody."""

import json
import tokenize
from typing import Any

from tflite_export.file_format import associated_files

# What content of another form than expected ends in.
FORM = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
# What an archive of NumPy's ends in: in zipfile, the decompressors or its own parsers.
ARCHIVE = (
  *associated_files.DAMAGE,
  AttributeError,
  MemoryError,
  TypeError,
  tokenize.TokenError,
)


def parsed(content: str) -> Any:
  """Parses JSON.

  Raises:
    ValueError: When it is none, is nested too deeply or has text that is no Unicode.
  """
  try:
    found = json.loads(content)
    # Half a pair of surrogates would be found out when it is shown or written.
    json.dumps(found, ensure_ascii=False).encode()
  except RecursionError as error:
    raise ValueError("is nested too deeply") from error
  return found
