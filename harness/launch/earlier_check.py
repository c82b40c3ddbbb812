"""Whether the earlier run that a spec takes its backbone from has one to give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checkpoint.manifest import list_checkpoints
from harness.errors import DataError
from harness.runs.earlier import earlier_run, record_of, spec_of, unfit
from harness.spec.existence import placed

if TYPE_CHECKING:
    from harness.spec import Resolved


def check_earlier(resolved: Resolved) -> None:
    """Looks for the record and the checkpoints of the run of ``backbone.handle: run:DIR``.

    Raises:
        DataError: it has saved nothing; with the line of its field.
    """
    paths = earlier_run(resolved.spec.backbone.handle)
    if paths is None:
        return
    try:
        spec_of(paths)
        record_of(paths)
        if not list_checkpoints(paths.checkpoints):
            raise unfit("the run has no checkpoint yet", paths, "wait for its first one")
    except DataError as error:
        problems = [placed("backbone.handle", each, resolved) for each in error.problems]
        raise DataError(problems) from error
