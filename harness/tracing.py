"""What TensorFlow's AutoGraph rewrites when a function is traced, and what it leaves alone.

To rewrite a function takes several times as long as to trace it: of a small run's start it was more
than a quarter.  Our own functions need none of it; those of a user's plug-in may, as they are free
to use ``if`` and ``for`` on tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def as_written(function: Function) -> Function:
    """Has AutoGraph call a function as it is written, when it comes upon it.

    For what ``tf.function`` or ``Distribution.run`` is given, and for ``call`` of a Keras layer of
    ours; what such a function calls itself is plain Python anyway.  A layer of the user's that it
    calls is rewritten still, by Keras.  ``tf.function(autograph=False)`` and ``do_not_convert``
    would forbid that too, so this is the mark that AutoGraph puts on what it has rewritten.
    """
    function.autograph_info__ = None  # type: ignore[attr-defined]
    return function


def rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the user's that is called by one of :func:`as_written`, and rewritten still.

    One of ours, as what a user's class has inherited, is given back as it is.
    """
    if getattr(function, "__module__", "").partition(".")[0] == __name__.partition(".")[0]:
        return function

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        import tensorflow as tf

        autograph = tf.__internal__.autograph  # as Keras calls the layers of users
        return autograph.tf_convert(function, autograph.control_status_ctx())(*arguments, **options)

    return call
