"""The flag that says where a server and its devices exchange messages."""

import pathlib
import re
import urllib.parse
from typing import Optional

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.devices.device_exchange import Exchange, FolderExchange

# What is more likely a gateway without its scheme than a folder.
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/.*)?")

EXCHANGE = flags.DEFINE_string(
  "exchange",
  None,
  "Folder that stands between the server and its devices; a device may give the http:// "
  "or https:// address of a pipelines.device_gateway before it.",
)


def open_exchange(target: Optional[str], token: str = "") -> Exchange:
  """Opens what `--exchange` names.

  Args:
    target: The flag's value.
    token: Proves to a gateway who asks; empty for none.

  Raises:
    InputError: When it names nothing that messages can travel on.
  """
  if not target:
    raise InputError(
      "--exchange is missing: name a folder, or the address of a gateway"
    )
  if "://" not in target:
    if token or (
      _HOST_AND_PORT.fullmatch(target) and not pathlib.Path(target).exists()
    ):
      raise InputError(
        f"--exchange={target}: is a folder's name; write http:// or https:// before "
        "a gateway's address, and leave --token_file out for a folder"
      )
    return FolderExchange(pathlib.Path(target))
  try:
    address = urllib.parse.urlsplit(target)
    is_known = address.scheme in ("http", "https") and bool(address.hostname)
    # Both raise where there can be no such host or port.
    _ = address.port, (address.hostname or "").encode("idna")
  except ValueError:
    is_known = False
  if not is_known or address.query or address.fragment:
    raise InputError(
      f"--exchange={target}: is no address of a gateway; give one such as "
      "http://127.0.0.1:8080 or https://host/path"
    )
  # Late: a device with a folder needs none of the network's modules.
  from pipelines.devices.device_http import HttpExchange

  return HttpExchange(address, token)
