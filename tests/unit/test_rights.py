"""Tests that lack a right are skipped at a desk and fail in CI, and say what they need."""

from __future__ import annotations

import os
import subprocess

import pytest
import rights

SKIPPED, FAILED = pytest.skip.Exception, pytest.fail.Exception


@pytest.mark.parametrize(("ci", "outcome"), [(None, SKIPPED), ("", SKIPPED), ("true", FAILED)])
class TestLacking:
    @pytest.fixture(autouse=True)
    def ci_or_not(self, ci, monkeypatch):
        monkeypatch.delenv("CI", raising=False)
        if ci is not None:
            monkeypatch.setenv("CI", ci)

    def test_root(self, outcome, monkeypatch):
        ran = []
        test = rights.needs_root(ran.append)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(outcome, match="run it as root"):
            test(1)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        test(2)
        assert ran == [2]

    def test_a_mount(self, outcome, monkeypatch, tmp_path):
        refused = subprocess.CompletedProcess([], 32, "", "permission denied\n")
        monkeypatch.setattr(subprocess, "run", lambda *_args, **_more: refused)
        with pytest.raises(outcome, match=r"CAP_SYS_ADMIN.*permission denied"):
            rights.mount_tmpfs(tmp_path, "size=1m")
