"""Runs in a state."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from runs_helpers import make_run

from harness.runs.paths import RunPaths


@pytest.fixture
def paths(tmp_path) -> RunPaths:
    return make_run(tmp_path)


OLD = "2020-01-01T00:00:00.000Z"


facts = st.dictionaries(
    st.text(min_size=1), st.none() | st.integers() | st.text() | st.lists(st.text(), max_size=3)
)
