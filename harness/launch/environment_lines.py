"""The bash lines that find a job's Python, as the site says.

They run in the batch shell on the job's first node, in front of the step.  At their end the shell
variable ``harness_python`` holds the Python of the ranks, a path that is valid on every node of
the job.  On failure they call ``harness_refuse 3 TEXT``, which the script has defined.
"""

from __future__ import annotations

from harness.spec import Site


def environment_lines(site: Site, python: str | None = None) -> list[str]:
    """Lines for the start of the batch script.

    Args:
        site: the profile.
        python: the Python that is used where the site names none; None is the one that runs this.
    """
    raise NotImplementedError


def cleanup_lines(site: Site) -> list[str]:
    """Lines for the end of the batch script; they leave ``$?`` to the caller."""
    raise NotImplementedError
