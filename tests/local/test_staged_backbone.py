"""A backbone from the Hub: staged, found by the ranks, and never asked for by them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.model.kept import USED
from harness.model.pinned import digest_of
from harness.model.remote import module_name
from harness.runs.attempts import read_attempts
from harness.runs.paths import RunPaths
from harness.worker.task import carry_out
from tests.https_here import NOBODY, World, archive, files_of, world
from tests.local.rank_helpers import assert_all, run_ranks
from tests.local.training_helpers import (
    assert_same_result,
    call,
    finish,
    record,
    run_here,
    start,
    write_spec,
)

HANDLE = "https://tfhub.dev/harness/tiny/1"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("https")) as served:
        served.serve_module(HANDLE, files_of(tiny_backbone))
        yield served


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("train", "test"):
        write_pictures(folder / name, ["blue", "green", "red"], 4, 16)
    return folder


@pytest.fixture
def spec(tmp_path: Path, tiny_backbone: Path, data: Path, hub: World) -> Path:
    hub.asked.clear()
    phases = [{"name": "one", "epochs": 1, "learning_rate": 0.01}]
    changes = {"backbone.handle": HANDLE, "training.phases": phases, "training.batch_size": 4}
    return write_spec(tmp_path, tiny_backbone, data, **changes)


def reach(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_run_without_network_trains_on_what_two_have_staged(
    spec: Path, hub: World, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    hub.slow_s = 1.0
    around = {**hub.environment, "HARNESS_CACHE": str(cache)}
    both = [start("stage", str(spec), "--json", **around) for _ in range(2)]
    done = [finish(one) for one in both]
    assert [code for code, _, _ in done] == [0, 0], done
    assert sorted(json.loads(out)["backbone"]["fetched"] for _, out, _ in done) == [False, True]
    assert len(hub.asked) == 1

    reach(monkeypatch, {**NOBODY, "HARNESS_OFFLINE": "1"})
    run_here(spec, cache)
    assert record(spec)["backbone_digest"] == digest_of(tiny_backbone)
    folder = cache / "tfhub" / module_name(HANDLE)
    assert folder.with_name(folder.name + USED).read_text() == f"{tmp_path / 'run'}\n"

    # It lies where the Hub itself would have put it.
    import tensorflow_hub

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache / "tfhub"))
    assert tensorflow_hub.resolve(HANDLE) == str(folder)


def test_what_is_neither_there_nor_fetched_is_said_before_training(
    spec: Path, hub: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run that reaches nobody; and by a rank of a job, which asks nobody at all."""
    cache = tmp_path / "cache"
    reach(monkeypatch, NOBODY)
    said = run_here(spec, cache, code=4)
    assert "the backbone is not in the cache" in said
    assert "harness stage SPEC" in said

    paths = RunPaths(tmp_path / "run")
    reach(monkeypatch, {**hub.environment, "HARNESS_CACHE": str(cache)})
    for name in ("TFHUB_CACHE_DIR", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    carry_out(str(paths.root))
    monkeypatch.delenv("HARNESS_OFFLINE")
    last = read_attempts(paths)[-1]
    assert (last.outcome, last.number) == ("refused", 2)
    assert "compute nodes have no internet" in str(last.message)
    assert hub.asked == []


def test_submitting_fetches_and_the_job_finds_it(spec: Path, hub: World, tmp_path: Path) -> None:
    around = {**hub.environment, "HARNESS_CACHE": str(tmp_path / "cache")}
    command = ("submit", str(spec), "--site", "local", "--run-dir", str(tmp_path / "run"))
    code, _, err = call(*command, "--wait", **around)
    assert code == 0, err
    assert f"fetching {HANDLE}" in err
    assert len(hub.asked) == 1
    assert RunPaths(tmp_path / "run").finished.exists()
    folder = tmp_path / "cache" / "tfhub" / module_name(HANDLE)
    assert folder.with_name(folder.name + USED).read_text() == f"{tmp_path / 'run'}\n"


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_a_run_trains_on_a_module_that_lies_here(
    form: str, spec: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an archive, and by the address of its folder, with the bits of the folder itself."""
    reach(monkeypatch, NOBODY)
    cache, file = tmp_path / "cache", tmp_path / "module.tar.gz"
    file.write_bytes(archive(files_of(tiny_backbone)))
    handle = f"hub:{file}" if form == "archive" else f"file://{tiny_backbone}"
    spec.write_text(spec.read_text().replace(HANDLE, handle))
    said = run_here(spec, cache)
    assert ("unpacking" in said) == (form == "archive")
    assert record(spec)["backbone"] == handle
    assert record(spec)["backbone_digest"] == digest_of(tiny_backbone)

    plain = tmp_path / "plain"
    plain.mkdir()
    copy = plain / spec.name
    copy.write_text(spec.read_text().replace(handle, f"hub:{tiny_backbone}"))
    run_here(copy, cache)
    assert_same_result(tmp_path / "run", plain / "run")
    if form == "folder":
        assert not (cache / "tfhub").exists()
        return

    # Unpacked in the cache, it is what a job's ranks go on with; taken away, they do not.
    (folder,) = (path for path in (cache / "tfhub").iterdir() if path.is_dir())
    assert folder.with_name(folder.name + USED).read_text() == f"{tmp_path / 'run'}\n"
    more = ("-o", "training.phases.0.epochs=2")
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    folder.rename(tmp_path / "aside")
    assert "a job's ranks unpack nothing" in run_here(spec, cache, *more, code=4)
    (tmp_path / "aside").rename(folder)
    run_here(spec, cache, *more)
    # Another archive in its place is not the one that the run has pinned.
    monkeypatch.delenv("HARNESS_OFFLINE")
    other = files_of(tiny_backbone)
    file.write_bytes(archive({**other, "more": b"else"}))
    said = run_here(spec, cache, "-o", "training.phases.0.epochs=3", code=4)
    assert "the backbone is not the one that the run pins" in said


def test_of_two_ranks_the_first_fetches(spec: Path, hub: World, tmp_path: Path) -> None:
    around = [
        {**end, "HARNESS_CACHE": str(tmp_path / "cache")} for end in (hub.environment, NOBODY)
    ]
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    two = ("-o", "cluster.ranks_per_node=2", "-o", "cluster.strategy=multiworker")
    assert_all(run_ranks(tmp_path, 2, *command, *two, each=lambda rank: around[rank]))
    assert len(hub.asked) == 1
    assert record(spec)["final"]
