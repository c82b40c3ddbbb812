"""How a test chooses the cluster's configuration."""

from __future__ import annotations

import pytest

from tests.cluster.configuration import CONFIGURATIONS


def on(*names: str) -> pytest.MarkDecorator:
    """Runs a test that uses ``cluster`` once on each of these configurations."""
    unknown = set(names) - set(CONFIGURATIONS)
    assert not unknown, f"no such configurations: {unknown}; there are {set(CONFIGURATIONS)}"
    return pytest.mark.parametrize("running_cluster", names, indirect=True)
