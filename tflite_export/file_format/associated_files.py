"""Files packed with a `.tflite` file: an uncompressed ZIP archive behind its bytes.

Runtimes read the model at the beginning and never see them; Android's metadata tools
read the archive at the end. They refuse compressed entries.
https://ai.google.dev/edge/litert/models/metadata
"""

import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping

from fedtiny_tff.errors import InputError

# Far above any file of labels. Foreign archives may be compressed and claim anything;
# what is not compressed cannot have more bytes than the file.
MAX_BYTES = 1 << 22

_EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)
_READABLE_BY_ALL = 0o644 << 16
_UNIX = 3
# What damaged archives end in, in zipfile or the decompressors.
DAMAGE = (
  zipfile.BadZipFile,
  EOFError,
  LookupError,
  NotImplementedError,
  OSError,
  OverflowError,
  RuntimeError,
  ValueError,
  lzma.LZMAError,
  zlib.error,
)


def append(model_bytes: bytes, files: Mapping[str, bytes]) -> bytes:
  """Returns a file with others packed behind it, the same bytes for the same input.

  Args:
    model_bytes: A `.tflite` file without packed files.
    files: Name to content.
  """
  if not files:
    return model_bytes
  stream = io.BytesIO()
  stream.write(model_bytes)
  # Mode "w", because "a" looks for an archive within the model's weights.
  with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
    for name, content in files.items():
      entry = zipfile.ZipInfo(name, _EARLIEST_DATE)
      entry.create_system, entry.external_attr = _UNIX, _READABLE_BY_ALL
      archive.writestr(entry, content)
  return stream.getvalue()


def read(model_bytes: bytes) -> dict[str, bytes]:
  """Returns what is packed behind a model, by name; nothing without an archive.

  Raises:
    InputError: The archive is damaged, or unpacks to more than `MAX_BYTES` and more
      than the file has.
  """
  stream = io.BytesIO(model_bytes)
  files: dict[str, bytes] = {}
  left = limit = max(MAX_BYTES, len(model_bytes))
  try:
    if not zipfile.is_zipfile(stream):
      return {}
    with zipfile.ZipFile(stream) as archive:
      for entry in archive.infolist():
        with archive.open(entry) as packed:
          content = packed.read(left + 1)
        left -= len(content)
        if left < 0:
          raise InputError(
            f"the files packed with the model have more than {limit:,} bytes; "
            "pack fewer"
          )
        files[entry.filename] = content
  except InputError:
    raise
  except DAMAGE as error:
    raise InputError(
      f"the files packed with the model are damaged ({type(error).__name__}: "
      f"{' '.join(str(error).split())}); write its metadata again"
    ) from error
  return files
