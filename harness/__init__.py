"""One job spec in, a trained and trustworthy model out.

>>> import harness
>>> result = harness.run("jobs/quickstart.yaml", overrides={"training.seed": 2})
>>> result.metrics["test_accuracy"], result.path

Importing the package imports neither TensorFlow nor pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from harness.launch.here import Result as Result
    from harness.launch.here import run as run

__all__ = ["Result", "__version__", "run"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import harness` stays cheap on a login node.
    if name in ("run", "Result"):
        from harness.launch import here

        return getattr(here, name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
