"""Building Keras models in graphs without harm to the models outside.

Keras 2 has two versions of its base classes. Making a layer in a plain graph, as
every TFF computation is one, switches the class of that layer to the graph version
for *all* its instances; a model made eagerly before is then in "an invalid state"
until someone happens to make such a layer eagerly again.
"""

import contextlib
import warnings
from collections.abc import Iterator

import tensorflow as tf

_GRAPH_MODULES = ("base_layer_v1", "training_v1")


def _is_of_graph_version(cls: type) -> bool:
  return cls.__module__.rpartition(".")[2] in _GRAPH_MODULES


def _subclasses(cls: type) -> Iterator[type]:
  for subclass in cls.__subclasses__():
    yield subclass
    yield from _subclasses(subclass)


def switched_classes() -> set[type]:
  """Returns the layer and model classes that are of the graph version now."""
  return {
    cls
    for cls in set(_subclasses(tf.keras.layers.Layer))
    if not _is_of_graph_version(cls) and any(map(_is_of_graph_version, cls.__mro__))
  }


@contextlib.contextmanager
def sparing_eager_models() -> Iterator[None]:
  """Switches classes back afterwards; also a decorator.

  For functions that build Keras models in graphs and are called eagerly; inside a
  graph nothing is switched back, because models there are still in use.
  """
  try:
    yield
  finally:
    if tf.executing_eagerly():
      for cls in switched_classes():
        # Making an instance eagerly is what switches; it need not be initialised.
        cls.__new__(cls)  # type: ignore[call-overload]


def fix_learning_phase() -> None:
  """Keeps Keras from building both branches of every layer in the current graph.

  Otherwise each batch norm holds conditionals on a learning-phase placeholder, which
  makes building three times slower. All our calls say `training=` themselves. Does
  nothing eagerly.
  """
  if tf.executing_eagerly():
    return
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tf.keras.backend.set_learning_phase(0)
