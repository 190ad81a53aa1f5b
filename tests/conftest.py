"""What holds for all tests."""

import gc


def pytest_collection_finish() -> None:
  """Looks for garbage as seldom as apps do: what was imported stays anyway."""
  gc.set_threshold(10_000, 10, 10)
  gc.freeze()
