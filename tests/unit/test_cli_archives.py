"""Backbones that lie here as an archive: unpacked once, by their content, and by nobody else's."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.cli.main import main
from harness.errors import DataError
from harness.launch.backbone_check import check_backbone
from harness.model.archives import no_module
from harness.model.fetch import fetch
from harness.model.pinned import digest_of
from harness.model.remote import Shelves, remote_of
from harness.model.role import BACKBONE
from harness.spec import load_spec
from harness.spec.models_model import Backbone
from harness.worker.backbones import bring
from tests.https_here import NOBODY, archive
from tests.unit.rights import needs_root
from tests.unit.spec_helpers import changed

FILES = {"./saved_model.pb": b"graph", "./variables/variables.index": b"index"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, nobody who answers, and an archive in the present folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    Path("module.tar.gz").write_bytes(archive(FILES))
    return tmp_path / "cache"


def spec_file(handle: str, **more: object) -> str:
    file = Path("spec.yaml")
    Path("data/a").mkdir(parents=True, exist_ok=True)
    backbone = {"handle": handle, **more}
    whole = changed(backbone=backbone, data={"train": "data"})
    file.write_text(yaml.safe_dump(whole))
    return str(file)


def staged(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["stage", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out)["backbone"])


def folder_of(cache: Path, file: str = "module.tar.gz") -> Path:
    return cache / "tfhub" / hashlib.sha256(Path(file).read_bytes()).hexdigest()[:40]


@pytest.mark.parametrize("form", ["hub:{}", "{}", "file:{}", "file://{}"])
def test_it_is_unpacked_once_under_its_content(form: str, cache: Path, capsys) -> None:
    here = Path.cwd()
    handle = form.format(here / "module.tar.gz")
    found = staged(capsys, spec_file(handle))
    assert (found["handle"], found["fetched"], found["bytes"]) == (handle, True, 10)
    assert found["path"] == str(folder_of(cache))
    assert (folder_of(cache) / "variables" / "variables.index").read_bytes() == b"index"
    assert staged(capsys, spec_file("hub:module.tar.gz"))["fetched"] is False
    # A copy by another name is the same module; by its handle alone, as by a spec.
    Path("copy.TGZ").write_bytes(Path("module.tar.gz").read_bytes())
    assert staged(capsys, "copy.TGZ")["fetched"] is False
    assert main(["stage", "hub:module.tar.gz"]) == 0
    assert "it was in the cache" in capsys.readouterr().out
    assert main(["cache", "list", "--json"]) == 0
    (kept,) = json.loads(capsys.readouterr().out)["backbones"]
    assert kept["handle"] == handle


def test_another_archive_in_its_place_is_another_module(cache: Path, capsys) -> None:
    first = Path(staged(capsys, "module.tar.gz")["path"])
    Path("module.tar.gz").write_bytes(archive({**FILES, "./saved_model.pb": b"other"}))
    second = Path(staged(capsys, "module.tar.gz")["path"])
    assert first != second == folder_of(cache)
    assert (second / "saved_model.pb").read_bytes() == b"other"
    assert digest_of(first) != digest_of(second)
    found = staged(capsys, spec_file("hub:module.tar.gz", digest=digest_of(second)), "--digest")
    assert found["digest"] == digest_of(second)
    assert main(["stage", spec_file("hub:module.tar.gz", digest="0" * 64), "--digest"]) == 4
    assert "is not the one that the spec pins" in capsys.readouterr().err


def test_a_file_that_changes_meanwhile_is_not_kept(cache: Path) -> None:
    remote = remote_of(Backbone(handle="hub:module.tar.gz"), (), Shelves.of({}, cache))
    assert remote is not None
    Path("module.tar.gz").write_bytes(archive({**FILES, "./saved_model.pb": b"other"}))
    with pytest.raises(DataError, match="changed while it was unpacked"):
        fetch(remote, print)
    assert [*(cache / "tfhub").iterdir()] == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no archive", "it is no whole .tar.gz"),
        (archive(FILES)[:-9], "it is no whole .tar.gz"),
        (archive({"module/saved_model.pb": b"graph"}), "without saved_model.pb, of module"),
        (archive({"../saved_model.pb": b"graph"}), "no name inside a module"),
    ],
)
def test_what_holds_no_module_is_said_with_what_to_run(
    content: bytes, said: str, cache: Path, capsys
) -> None:
    Path("module.tar.gz").write_bytes(content)
    assert main(["stage", spec_file("hub:module.tar.gz")]) == 4
    error = capsys.readouterr().err
    assert said in error
    assert "backbone.handle: the archive holds no backbone; nothing is kept of it" in error
    assert "tar -C FOLDER -czf module.tar.gz ." in error
    assert [*(cache / "tfhub").iterdir()] == []


def test_the_way_that_is_told_makes_one(cache: Path, capsys) -> None:
    """The command of the error is run as it stands."""
    (Path("FOLDER") / "variables").mkdir(parents=True)
    (Path("FOLDER") / "saved_model.pb").write_bytes(b"graph")
    action = no_module(Path("made.tar.gz"), "", BACKBONE).problems[0].action
    assert action is not None
    subprocess.run(action.partition(": ")[2].split(), check=True)
    assert staged(capsys, "made.tar.gz")["bytes"] == 5


@pytest.mark.parametrize("handle", ["hub:gone.tar.gz", "file:gone.tgz", "gone.tar"])
def test_one_that_is_not_there(handle: str, capsys) -> None:
    assert main(["stage", handle]) == 4
    assert "the archive of the backbone cannot be read" in capsys.readouterr().err
    assert main(["validate", spec_file(handle)]) == 2
    error = capsys.readouterr().err
    assert "backbone.handle: does not exist" in error
    assert "an archive of a SavedModel (.tar.gz, .tgz, .tar)" in error


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["hub:module.tar.gz", "--from", "module.tar.gz"], 2, "this one is a file already"),
        (["hub:folder"], 2, "nothing is fetched of this backbone"),
        (["file://host/module.tar.gz"], 2, "names another machine"),
    ],
)
def test_what_does_not_go_with_it(words: list[str], code: int, said: str, capsys) -> None:
    assert main(["stage", *words]) == code
    assert said in capsys.readouterr().err


def test_a_plan_says_whether_it_is_unpacked(cache: Path, capsys) -> None:
    file = spec_file("hub:module.tar.gz")
    assert main(["plan", file, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["backbone"]["cached"] is False
    assert any("`harness submit` unpacks it first" in note for note in plan["notes"])
    assert not (cache / "tfhub").exists()


def test_ranks_of_a_job_unpack_nothing_and_submitting_does(cache: Path) -> None:
    resolved = load_spec(spec_file("hub:module.tar.gz"))
    remote = remote_of(resolved.spec.backbone, (), Shelves.of({}, cache))
    assert remote is not None
    with pytest.raises(DataError, match="a job's ranks unpack nothing") as caught:
        bring(remote, {"HARNESS_OFFLINE": "1"}, print)
    assert "run `harness stage SPEC`" in str(caught.value)
    said: list[str] = []
    check_backbone(resolved, said.append)
    assert said == [f"unpacking {Path('module.tar.gz').absolute()}"]
    assert bring(remote, {"HARNESS_OFFLINE": "1"}, print).fetched is False


def test_one_that_others_may_write_is_refused_before_it_is_unpacked(cache: Path) -> None:
    Path("module.tar.gz").chmod(0o602)
    resolved = load_spec(spec_file("hub:module.tar.gz"))
    with pytest.raises(DataError, match="others may write to this one"):
        check_backbone(resolved, print)
    assert not (cache / "tfhub").exists()


@needs_root
def test_somebody_elses_archive_is_no_less_somebody_elses_once_it_is_unpacked(
    cache: Path, capsys
) -> None:
    """Staged by hand the files in the cache are ours, but not who made them."""
    from harness.model.backbone import Pinned
    from harness.model.encoder import load_module
    from harness.spec import Trust

    os.chown("module.tar.gz", 12345, 12345)
    staged(capsys, "module.tar.gz")
    wanted = Backbone(handle=f"hub:{Path('module.tar.gz').absolute()}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFHUB_CACHE_DIR", str(cache / "tfhub"))
        with pytest.raises(DataError, match="this one belongs to somebody else"):
            load_module(wanted, None, Pinned(), Trust())


def test_who_unpacks_needs_no_tensorflow(cache: Path) -> None:
    code = (
        "import sys; from harness.cli.main import main; "
        "code = main(['stage', 'hub:module.tar.gz', '--digest']); "
        "assert not {'tensorflow', 'tf_keras', 'tensorflow_hub'} & set(sys.modules); "
        "sys.exit(code)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
