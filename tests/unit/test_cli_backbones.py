"""``harness stage``, ``plan``, ``submit`` and ``cache``, as far as they are about backbones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.cli.main import main
from harness.model import kept
from harness.model.kept import backbones, note_use
from harness.model.pinned import digest_of
from harness.model.remote import module_name
from tests.https_here import NOBODY, World, archive, world
from tests.unit.spec_helpers import changed
from tests.unit.staging_helpers import make_set
from tests.unit.test_launch_verb_job import options, script, step

HANDLE = "https://tfhub.dev/google/small/1"
FILES = {"./saved_model.pb": b"graph", "./variables/variables.index": b"index"}
DAY_S = 86400.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("https")) as found:
        found.serve_module(HANDLE, FILES)
        yield found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nobody who answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "cache"


@pytest.fixture
def hub(served: World, cache: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The Hub can be reached."""
    served.asked.clear()
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


def spec_file(**changes: object) -> str:
    """A spec with a backbone from the Hub, in the present folder."""
    file = Path("spec.yaml")
    Path("data/a").mkdir(parents=True, exist_ok=True)
    whole = changed(**{"backbone": {"handle": HANDLE}, "data": {"train": "data"}, **changes})
    file.write_text(yaml.safe_dump(whole))
    return str(file)


def module_in(cache: Path) -> Path:
    return cache / "tfhub" / module_name(HANDLE)


def staged(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main(["stage", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


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


def test_reading_all_of_it_is_a_job(hub: World, cache: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS_ROOT", str(cache.parent / "runs"))
    text = script(capsys, "stage", spec_file(), "--digest", "-o", "cluster.time=1:00:00")
    file = str(Path("spec.yaml").absolute())
    assert step(text) == ["stage", file, "--digest", "-o", "cluster.time=1:00:00"]
    assert options(text)["time"] == "1:00:00"
    assert hub.asked == []  # nothing is done
    assert step(script(capsys, "stage", HANDLE, "--digest")) == ["stage", HANDLE, "--digest"]


def test_copying_is_a_job_with_a_place(hub: World, cache: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS_ROOT", str(cache.parent / "runs"))
    packed = make_set(cache.parent / "packed").root
    file = spec_file(data={"train": str(packed), "validation": None})
    assert main(["stage", file, "--slurm", "--dry-run"]) == 2
    assert "--slurm without --to" in capsys.readouterr().err
    words = ["--only", "data", "--to", "there"]
    found = step(script(capsys, "stage", file, *words))
    there = str(Path("there").absolute())
    assert found[1:] == [str(Path(file).absolute()), *words[:-1], there, "--workers", found[-1]]
    assert step(script(capsys, "stage", str(packed), "--to", "there"))[1] == str(packed)


def test_packing_goes_along(hub: World, cache: Path, capsys, monkeypatch, write_pictures) -> None:
    monkeypatch.setenv("HARNESS_RUNS_ROOT", str(cache.parent / "runs"))
    write_pictures(cache.parent / "pictures", ["a", "b"], 3, 8)
    file = spec_file(data={"train": "pictures", "validation": None, "image_size": 8})
    found = staged(capsys, file, "--pack", "packed")
    assert found["backbone"]["fetched"]
    assert (found["packed"]["examples"], found["packed"]["finished"]) == (6, True)
    assert main(["pack", file, "again", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == found["packed"]["digest"]
    assert main(["stage", file, "--pack", "packed"]) == 0
    said = capsys.readouterr().out
    assert "it was in the cache" in said
    assert "packed: 6 examples of 2 classes" in said
    assert script(capsys, "stage", file, "--pack", "other") == script(capsys, "pack", file, "other")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "there"], "--pack does not go with --to"),
        (["--only", "data"], "--pack does not go with --only data"),
        (["--digest", "--slurm"], "--pack does not go with --digest"),
        (["-o", "data.image_size=9"], "--pack does not go with -o data.image_size=9"),
    ],
)
def test_what_packing_does_not_go_with(words: list[str], said: str, cache: Path, capsys) -> None:
    assert main(["stage", spec_file(), "--pack", "packed", *words]) == 2
    assert said in capsys.readouterr().err
    assert main(["stage", HANDLE, "--pack", "packed"]) == 2
    assert "--pack is of the data of a spec" in capsys.readouterr().err


def planned(capsys: pytest.CaptureFixture[str], file: str) -> dict:
    capsys.readouterr()
    assert main(["plan", file, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_a_plan_says_whether_the_backbone_is_there(hub: World, cache: Path, capsys) -> None:
    file = spec_file()
    plan = planned(capsys, file)
    assert plan["backbone"] == {
        "handle": HANDLE,
        "path": str(module_in(cache)),
        "cached": False,
        "bytes": None,
    }
    assert any("is not in the cache; `harness submit` fetches" in note for note in plan["notes"])
    assert main(["submit", file, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "is not in the cache" in shown.err
    assert "is not in the cache" not in shown.out
    assert hub.asked == []
    staged(capsys, file)
    plan = planned(capsys, file)
    assert (plan["backbone"]["cached"], plan["backbone"]["bytes"]) == (True, 10)
    assert any("is in the cache" in note for note in plan["notes"])
    assert main(["submit", file, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backbone"]["cached"] is True
    assert planned(capsys, spec_file(backbone={"handle": "plugin:x"}))["backbone"] is None


def test_nothing_is_queued_without_its_backbone(cache: Path, capsys) -> None:
    assert main(["submit", spec_file(), "--site", "local", "--runs-root", "runs"]) == 4
    error = capsys.readouterr().err
    assert "spec.yaml:" in error
    assert "backbone.handle: the backbone is not in the cache" in error
    assert f"'{HANDLE}?tf-hub-format=compressed'" in error
    assert not Path("runs").exists()


def test_somebody_elses_module_is_refused_before_anything_is_queued(
    hub: World, cache: Path, capsys
) -> None:
    staged(capsys, HANDLE)
    (module_in(cache) / "saved_model.pb").chmod(0o602)
    command = ["submit", spec_file(), "--site", "local", "--runs-root", "runs"]
    assert main(command) == 4
    assert "others may write to this one" in capsys.readouterr().err
    assert not Path("runs").exists()


def aged(path: Path, days: float) -> None:
    os.utime(path.with_name(path.name + kept.USED), (time.time() - days * DAY_S,) * 2)


def kept_handles(capsys: pytest.CaptureFixture[str]) -> list[str | None]:
    capsys.readouterr()
    assert main(["cache", "list", "--json"]) == 0
    return [one["handle"] for one in json.loads(capsys.readouterr().out)["backbones"]]


@pytest.fixture
def three(hub: World, cache: Path, capsys) -> Path:
    """A module unused for eight days, weights for forty; what somebody else put there."""
    staged(capsys, HANDLE)
    weights = cache / "keras" / "models" / "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    (weights.parent / "mine.h5").write_bytes(b"mine")
    note_use(weights)
    aged(module_in(cache), 8)
    aged(weights, 40)
    return cache


def test_the_list_shows_backbones(three: Path, capsys) -> None:
    assert kept_handles(capsys) == ["keras:Xception", HANDLE]
    assert main(["cache", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["NAME", "SIZE", "UNUSED", "HANDLE"]
    assert lines[-1] == "2 backbones, 17 bytes"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--unused-days", "30"], [HANDLE]),
        (["--unused-days", "50"], ["keras:Xception", HANDLE]),
        (["--to-gb", "0.00000001"], [HANDLE]),
        (["--all"], []),
        (["--all", "--only", "backbones"], []),
        (["--all", "--only", "features"], ["keras:Xception", HANDLE]),
        (["--all", "--dry-run"], ["keras:Xception", HANDLE]),
    ],
)
def test_prune_removes_backbones_that_nobody_uses(
    words: list[str], left: list[str], three: Path, capsys
) -> None:
    assert main(["cache", "prune", *words]) == 0
    assert kept_handles(capsys) == left
    names = {path.name for path in (three / "tfhub").iterdir()}
    assert bool(names) == (HANDLE in left)  # nor anything beside it
    assert (three / "keras" / "models" / "mine.h5").exists()


def run_folder(folder: Path, mark: str | None = None) -> Path:
    (folder / "slurm").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    if mark is not None:
        (folder / mark).write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("mark", "age_days", "stays"),
    [
        (None, 0, True),
        (None, 80, True),
        (None, 100, False),
        ("FINISHED", 0, False),
        ("FAILED", 0, False),
        ("slurm/CANCELLED", 0, False),
    ],
)
def test_what_a_run_needs_is_not_pruned(
    mark: str | None, age_days: float, stays: bool, three: Path, tmp_path: Path, capsys
) -> None:
    run = run_folder(tmp_path / "run", mark)
    other = run_folder(tmp_path / "other", "FINISHED")
    for one in (other, run, run):
        note_use(module_in(three), one)
    os.utime(run / "run.json", (time.time() - age_days * DAY_S,) * 2)
    aged(module_in(three), 8)
    (found,) = [one for one in backbones(three) if one.handle == HANDLE]
    assert found.runs == ((run,) if stays else ())
    assert found.in_use is stays
    if stays:
        assert main(["cache", "list"]) == 0
        assert "in use by 1 run" in capsys.readouterr().out
    assert main(["cache", "prune", "--all"]) == 0
    assert (HANDLE in kept_handles(capsys)) == stays


def test_a_run_that_has_gone_needs_nothing(three: Path, tmp_path: Path) -> None:
    note_use(module_in(three), tmp_path / "nowhere")
    assert [one.runs for one in backbones(three)] == [(), ()]


def test_what_has_just_come_into_use_stays(three: Path, capsys) -> None:
    (found,) = [one for one in backbones(three) if one.handle == HANDLE]
    note_use(found.path)
    assert kept.remove(found) is False
    assert found.path.exists()


def test_a_file_replaces_nothing_that_is_there(cache: Path, capsys) -> None:
    Path("module.tar.gz").write_bytes(archive(FILES))
    assert staged(capsys, spec_file(), "--from", "module.tar.gz")["backbone"]["fetched"]
    assert main(["stage", HANDLE, "--from", "module.tar.gz"]) == 2
    assert "in the cache already" in capsys.readouterr().err
