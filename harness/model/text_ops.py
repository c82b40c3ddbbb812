"""The operations of TensorFlow Text, which the tokenizers of many text modules are made of."""

from __future__ import annotations

import importlib
import importlib.util

import tensorflow as tf

from harness.errors import EnvironmentNotAble

_MODULE = "tensorflow_text"


def import_text_ops(unknown: str, what: str = "backbone", field: str = "backbone.handle") -> None:
    """Makes TensorFlow Text's operations known, once a module turns out to need one.

    Args:
        unknown: the operation that TensorFlow alone does not know.
        what: needs it, in words for an error.
        field: of the spec, that names it.

    Raises:
        EnvironmentNotAble: TensorFlow Text is not installed, or not for this TensorFlow.
    """
    series = ".".join(tf.__version__.split(".")[:2])
    if importlib.util.find_spec(_MODULE) is None:
        raise EnvironmentNotAble(
            f"the {what} needs TensorFlow Text, and it is not installed",
            got=f"the operation {unknown}",
            allowed="the [text] extra",
            action="pip install 'harness[text]'",
            path=field,
        )
    try:
        importlib.import_module(_MODULE)
    except (ImportError, tf.errors.OpError) as error:
        raise EnvironmentNotAble(
            "TensorFlow Text cannot be imported",
            got=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}",
            allowed=f"a release of the same series as TensorFlow {tf.__version__}",
            action=f"pip install 'tensorflow-text=={series}.*'",
            path=field,
        ) from error
