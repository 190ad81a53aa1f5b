"""A pytest plugin for `make mutation`: TensorFlow calls what mutmut changed.

mutmut puts a wrapper around every function, which calls the changed one. AutoGraph
would convert the function under the wrapper, and `tf.function` hand on that of a
function it is given: the unchanged one, so that no change would ever run there.

It is copied beside the tests, and imports nothing of the product.
"""

import inspect
from collections.abc import Callable
from typing import Any

from mutmut.mutation import trampoline
from tensorflow.python.autograph.impl import api

_wrap = trampoline.wrap_in_trampoline


def wrap_opaquely(*arguments: Any, **options: Any) -> Callable[..., Any]:
  """Returns mutmut's decorator, whose result nobody looks into.

  What that calls in turn is converted as ever, unlike under `do_not_convert`.
  """
  decorate = _wrap(*arguments, **options)

  def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    wrapper: Any = decorate(function)
    wrapper.__signature__ = inspect.signature(function)
    del wrapper.__wrapped__
    return api.autograph_artifact(wrapper)

  return wrap


trampoline.wrap_in_trampoline = wrap_opaquely
