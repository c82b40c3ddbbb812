"""``harness stage``, ``plan``, ``submit`` and ``cache``, as far as they are about backbones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.cli.main import main
from harness.model.pinned import digest_of
from tests.https_here import World, archive
from tests.unit.backbones_cli_helpers import (
    FILES,
    HANDLE,
    cache,
    hub,
    module_in,
    served,
    spec_file,
    staged,
)

__all__ = ["cache", "hub", "served"]  # fixtures, found by their names


def test_a_spec_has_its_backbone_fetched_once(hub: World, cache: Path, capsys) -> None:
    found = staged(capsys, spec_file())
    assert (found["place"], found["sets"]) == (None, [])
    first = found["backbone"]
    assert (first["handle"], first["fetched"], first["digest"]) == (HANDLE, True, None)
    assert (first["path"], first["bytes"]) == (str(module_in(cache)), 10)
    assert main(["stage", HANDLE]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{HANDLE}: 10 bytes; it was in the cache"
    assert out[1].strip() == str(module_in(cache))
    assert len(hub.asked) == 1


def test_the_digest_is_told_when_it_is_asked_for(hub: World, cache: Path, capsys) -> None:
    found = staged(capsys, HANDLE, "--digest")["backbone"]
    assert found["digest"] == digest_of(module_in(cache))
    pinned = {"handle": HANDLE, "digest": found["digest"]}
    assert main(["stage", spec_file(backbone=pinned), "--digest"]) == 0
    assert f"sha256 {found['digest']}" in capsys.readouterr().out
    pinned["digest"] = "0" * 64
    assert main(["stage", spec_file(backbone=pinned), "--digest"]) == 4
    assert "is not the one that the spec pins" in capsys.readouterr().err


def test_a_file_from_elsewhere_needs_no_network(cache: Path, capsys, tmp_path: Path) -> None:
    Path("module.tar.gz").write_bytes(archive(FILES))
    assert staged(capsys, spec_file(), "--from", "module.tar.gz")["backbone"]["fetched"]
    assert (module_in(cache) / "saved_model.pb").read_bytes() == b"graph"
    assert main(["stage", HANDLE, "--from", "nowhere.tar.gz"]) == 4
    assert "there is no such file" in capsys.readouterr().err


def test_who_stages_needs_no_tensorflow(hub: World, cache: Path) -> None:
    code = (
        "import sys; from harness.cli.main import main; "
        f"code = main(['stage', {HANDLE!r}, '--digest']); "
        "assert not {'tensorflow', 'tf_keras', 'tensorflow_hub'} & set(sys.modules); "
        "sys.exit(code)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([HANDLE], 4, "the backbone is not in the cache"),
        (["keras:MobileNetV2"], 4, "curl -fLo FILE https://storage.googleapis.com/"),
        (["keras:Nothing"], 2, "is not a Keras application"),
        ([HANDLE, "--slurm"], 2, "fetching a backbone is no job"),
        ([HANDLE, "--to", "here"], 2, "--to is of packed data"),
        ([HANDLE, "-o", "a=b"], 2, "-o belongs to a spec"),
    ],
)
def test_what_cannot_be_staged(words: list[str], code: int, said: str, cache: Path, capsys) -> None:
    assert main(["stage", *words]) == code
    assert said in capsys.readouterr().err


def test_offline_nobody_is_asked(hub: World, cache: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    assert main(["stage", HANDLE]) == 4
    assert "HARNESS_OFFLINE is set" in capsys.readouterr().err
    assert hub.asked == []
    monkeypatch.setenv("HARNESS_OFFLINE", "yes")
    assert main(["stage", HANDLE]) == 2
    assert "HARNESS_OFFLINE is no switch" in capsys.readouterr().err


def test_a_cache_of_this_machine_alone_is_none(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("HARNESS_CACHE")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(["stage", HANDLE]) == 5
    assert "there is no cache that jobs see" in capsys.readouterr().err


def test_the_cache_of_the_site_is_that_of_its_jobs(hub: World, cache: Path, capsys) -> None:
    shared = Path("shared").absolute()
    site = {
        "name": "here",
        "description": "a site whose jobs have a cache of their own",
        "environment": {"variables": {"HARNESS_CACHE": str(shared)}},
    }
    Path("site.yaml").write_text(yaml.safe_dump(site))
    found = staged(capsys, spec_file(), "--site", "site.yaml")["backbone"]
    assert found["path"] == str(module_in(shared))


def test_a_file_replaces_nothing_that_is_there(cache: Path, capsys) -> None:
    Path("module.tar.gz").write_bytes(archive(FILES))
    assert staged(capsys, spec_file(), "--from", "module.tar.gz")["backbone"]["fetched"]
    assert main(["stage", HANDLE, "--from", "module.tar.gz"]) == 2
    assert "in the cache already" in capsys.readouterr().err
