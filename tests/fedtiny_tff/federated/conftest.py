"""One TFF worker for all tests of the federated ring."""

from collections.abc import Iterator

import pytest

from fedtiny_tff.federated.runtimes import runtime


@pytest.fixture(scope="session")
def local_runtime() -> Iterator[runtime.LocalRuntime]:
  """TFF's own C++ worker, ended with the session."""
  with runtime.LocalRuntime() as running:
    yield running
