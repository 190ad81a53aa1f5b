"""A pytest plugin for `make mutation`: `tf.function` hands on what mutmut changed.

mutmut puts a wrapper around every function, which calls the changed one. `tf.function`
looks through the wrapper of a function that it is given, at the unchanged one, so that
no change of a function that graphs are built with would ever run.

It is copied beside the tests, and imports nothing of the product.
"""

import inspect
from collections.abc import Callable
from typing import Any

from mutmut.mutation import trampoline

_wrap = trampoline.wrap_in_trampoline


def wrap_opaquely(*arguments: Any, **options: Any) -> Callable[..., Any]:
  """Returns mutmut's decorator, whose result nobody looks through."""
  decorate = _wrap(*arguments, **options)

  def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    wrapper: Any = decorate(function)
    wrapper.__signature__ = inspect.signature(function)
    del wrapper.__wrapped__
    return wrapper

  return wrap


trampoline.wrap_in_trampoline = wrap_opaquely
