"""What a source of examples can be told."""

import dataclasses
from typing import Optional

# Names of datasets of tensorflow-datasets begin with it.
TFDS_PREFIX = "tfds:"


@dataclasses.dataclass(frozen=True)
class SourceOptions:
  """Every source reads what concerns it, and refuses what it cannot do.

  Attributes:
    data_dir: Folder (or file) of its data; None for embedded datasets.
    image_size: Height and width that images are resized to; None keeps theirs.
    image_channels: 1 for grey images, 3 for colour.
    client_separator: In folders of files, what ends the client's id at the start of a
      file's name; "" = folders say whose they are, or nothing does.
    feature_shape: Shape of one example's features; () = as the source says.
    label_column: Column of a table that holds the label.
    client_column: Column of a table that holds the client id.
    feature_columns: Columns of a table that hold features, in order; () = all others.
    window_rows: Rows of a table that make one example; 0 = each row is one.
    window_stride_rows: Rows from one window's start to the next one's; 0 = as many as
      it has.
    extraction: Key of `extraction.EXTRACTIONS`: what is made of raw signals.
    sample_rate_hz: Samples a second of raw signals.
    test_share: Share of each client's examples that is held out as the test split
      where a source has none.
    synthetic_clients: Clients of the synthetic dataset.
    synthetic_examples_per_client: Training examples of each of them.
  """

  data_dir: Optional[str] = None
  image_size: Optional[tuple[int, int]] = None
  image_channels: int = 3
  client_separator: str = ""
  feature_shape: tuple[int, ...] = ()
  label_column: str = "label"
  client_column: str = "client"
  feature_columns: tuple[str, ...] = ()
  window_rows: int = 0
  window_stride_rows: int = 0
  extraction: str = "none"
  sample_rate_hz: int = 16_000
  test_share: float = 0.2
  synthetic_clients: int = 100
  synthetic_examples_per_client: int = 20
