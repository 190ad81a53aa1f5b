"""Places of the fields in TensorFlow's metadata tables, which flatbuffers count.

The tables and fields of metadata schema 1.5.0 (file identifier M001) that are written
or read here; a field's place is its position in its table's declaration.
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs
"""

import enum

# Of the entry in the model's list of metadata, whose buffer holds a ModelMetadata.
ENTRY_NAME = "TFLITE_METADATA"
FILE_IDENTIFIER = b"M001"
# The first version with CustomMetadata, the newest field written here.
MIN_PARSER_VERSION = "1.5.0"
# Custom metadata of that name hold a JSON object with what the schema has no field for.
CUSTOM_NAME = "fedtiny_tff"


class Model(enum.IntEnum):
  """Fields of ModelMetadata, the root."""

  NAME = 0
  DESCRIPTION = 1
  VERSION = 2
  SUBGRAPHS = 3
  AUTHOR = 4
  LICENCE = 5
  FILES = 6
  MIN_PARSER_VERSION = 7


class Subgraph(enum.IntEnum):
  """Fields of SubGraphMetadata."""

  NAME = 0
  DESCRIPTION = 1
  INPUTS = 2
  OUTPUTS = 3
  FILES = 4
  CUSTOM = 9


class Custom(enum.IntEnum):
  """Fields of CustomMetadata."""

  NAME = 0
  DATA = 1


class Tensor(enum.IntEnum):
  """Fields of TensorMetadata."""

  NAME = 0
  DESCRIPTION = 1
  DIMENSION_NAMES = 2
  CONTENT = 3
  PROCESS_UNITS = 4
  STATS = 5
  FILES = 6


class Content(enum.IntEnum):
  """Fields of Content."""

  PROPERTIES_TYPE = 0
  PROPERTIES = 1


class ContentType(enum.IntEnum):
  """Members of the union ContentProperties."""

  FEATURE = 1
  IMAGE = 2
  BOUNDING_BOX = 3
  AUDIO = 4


class Image(enum.IntEnum):
  """Fields of ImageProperties."""

  COLOUR_SPACE = 0


class ColourSpace(enum.IntEnum):
  """Members of the enumeration ColorSpaceType."""

  UNKNOWN = 0
  RGB = 1
  GREYSCALE = 2


class ProcessUnit(enum.IntEnum):
  """Fields of ProcessUnit."""

  OPTIONS_TYPE = 0
  OPTIONS = 1


# Member of the union ProcessUnitOptions.
NORMALISATION_OPTIONS = 1


class Normalisation(enum.IntEnum):
  """Fields of NormalizationOptions: (value - mean) / deviation."""

  MEAN = 0
  DEVIATION = 1


class Stats(enum.IntEnum):
  """Fields of Stats."""

  MAX = 0
  MIN = 1


class File(enum.IntEnum):
  """Fields of AssociatedFile."""

  NAME = 0
  DESCRIPTION = 1
  TYPE = 2


class FileType(enum.IntEnum):
  """Members of the enumeration AssociatedFileType."""

  AXIS_LABELS = 2
  VALUE_LABELS = 3
