"""Features that cannot be read any more, are stopped half-way, or pruned while they are read."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data import feature_feed, feature_store
from harness.data.feature_file import FileChunk
from harness.errors import StorageError
from harness.train.feature_filling import Filling
from harness.worker import featured
from tests.local.rank_helpers import assert_all, run_ranks
from tests.local.training_helpers import (
    CLASSES,
    assert_equal_losses,
    assert_same_result,
    record,
    run_here,
    write_spec,
)

OTHER_DIGITS = {"training.deterministic": False}
"""With true, a run that computes the last digits of its features by another way ends."""

# In the process of a rank: reads little ahead and from the files, which fail for rank 1.
FAILING = """
import os
from harness.data import feature_feed
from harness.data.feature_file import FileChunk
from harness.worker import featured

feature_feed._ROWS, feature_feed._READY = 8, 1
featured.memory_left = lambda *of: 0
reads = 0

def failing(self, into, offset, fill=FileChunk._fill):
    global reads
    reads += 1
    if os.environ["WHO"] == "1" and reads > 20:
        raise OSError(5, "Input/output error")
    fill(self, into, offset)

FileChunk._fill = failing
"""

# Makes the features look unused for hours, and in the next call removes all that is not in use.
PRUNING = """
import contextlib, io, os, pathlib, time
import tf_keras
from harness.cli.main import main
from harness.plugins import register

@register("callback", "pruning")
class Pruning(tf_keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        features = pathlib.Path(os.environ["HARNESS_CACHE"]) / "features"
        step = int(self.model.optimizer.iterations.numpy())
        if step == 2:
            for used in features.glob("*/used"):
                os.utime(used, (time.time() - 7200,) * 2)
        if step == 4:
            with contextlib.redirect_stdout(io.StringIO()) as said:
                assert main(["cache", "prune", "--all", "--only", "features"]) == 0
            (features.parent / "said").write_text(said.getvalue())

    def get_state(self):
        return {}

    def set_state(self, state):
        pass
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 13, 16)
    write_pictures(folder / "test", CLASSES, 5, 16)
    return folder


def write(folder: Path, backbone: Path, data: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    chosen = {"training.feature_cache": "auto", "data.augment": {}, **changes}
    return write_spec(folder, backbone, data, **chosen)


@pytest.fixture(scope="module")
def plain(tiny_backbone: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without the cache."""
    folder = tmp_path_factory.mktemp("plain")
    spec = write(folder, tiny_backbone, data, **{"training.feature_cache": "off"})
    run_here(spec, folder / "cache")
    return folder / "run"


class Disk:
    """Fails from a read on, as long as it is not mended."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int) -> None:
        self.left, fill = after, FileChunk._fill

        def failing(chunk: FileChunk, into: Any, offset: int) -> None:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fill(chunk, into, offset)

        patch.setattr(FileChunk, "_fill", failing)
        # From the files, and little ahead.
        patch.setattr(featured, "memory_left", lambda *of: 0)
        patch.setattr(feature_feed, "_ROWS", 8)
        patch.setattr(feature_feed, "_READY", 1)


def test_a_run_goes_on_from_the_backbone_where_the_disk_fails(
    plain: Path, tiny_backbone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, after=20)
    spec = write(tmp_path, tiny_backbone, data, **OTHER_DIGITS)
    said = run_here(spec, tmp_path / "cache")
    assert disk.left < 0
    # Of each phase, which tries anew; in the record of both.
    assert said.count("it cannot be read any more") == 2
    assert "Input/output error" in said
    assert_equal_losses(plain, tmp_path / "run")
    noted = record(spec)["feature_cache"]
    assert set(noted) == {"train", "validation"}
    assert all("Input/output error" in one["lost"] for one in noted.values())
    assert record(spec)["exact"] is False
    assert any("could not be read" in why for why in record(spec)["not_exact_because"])


def test_asked_for_by_name_it_is_an_error_and_the_same_command_goes_on(
    plain: Path, tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    asked = {"training.feature_cache": {"copies": 1, "dtype": "float32"}}
    spec = write(tmp_path, tiny_backbone, data, **asked)
    with pytest.MonkeyPatch.context() as patch:
        Disk(patch, after=20)
        said = run_here(spec, tmp_path / "cache", code=5)
    assert "have gone from the cache, or cannot be read" in said
    assert "Input/output error" in said
    assert "HARNESS_CACHE=FOLDER" in said
    run_here(spec, tmp_path / "cache")
    assert_equal_losses(plain, tmp_path / "run")


def test_a_cache_that_cannot_be_looked_through_is_not_used(
    plain: Path, tiny_backbone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name again an error, though all of it is there."""
    cache = tmp_path / "cache"
    run_here(write(tmp_path / "first", tiny_backbone, data), cache)

    def failing(entry: feature_store.Entry, number: int) -> None:
        raise StorageError("a disk fails", got=str(entry.path_of(number)))

    monkeypatch.setattr(feature_store.Entry, "read", failing)
    spec = write(tmp_path / "auto", tiny_backbone, data)
    said = run_here(spec, cache)
    assert said.count("not used for the train and validation examples: a disk fails") == 1
    assert record(spec)["feature_cache"] == {}
    assert_equal_losses(plain, spec.parent / "run")
    asked = {"training.feature_cache": {"copies": 1, "dtype": "float32"}}
    spec = write(tmp_path / "asked", tiny_backbone, data, **asked)
    said = run_here(spec, cache, code=2)
    assert "cannot be cached" in said
    assert "a disk fails" in said


def test_features_that_vanish_in_the_midst_are_no_end_either(
    plain: Path, tiny_backbone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut behind the back of a run that reads them, and whole again in the next phase."""
    disk = Disk(monkeypatch, after=1 << 30)
    fill, cut = FileChunk._fill, []

    def cutting(chunk: FileChunk, into: Any, offset: int) -> None:
        if disk.left < (1 << 30) - 20 and not cut:
            for path in (tmp_path / "cache").glob("features/*/chunk-*"):
                cut.append(path)
                os.truncate(path, 0)
        fill(chunk, into, offset)

    monkeypatch.setattr(FileChunk, "_fill", cutting)
    spec = write(tmp_path, tiny_backbone, data, **OTHER_DIGITS)
    said = run_here(spec, tmp_path / "cache")
    assert said.count("the file has become shorter") == 1
    assert said.count("computes the features of the train and validation examples once") == 2
    assert all(path.stat().st_size for path in cut)
    assert_equal_losses(plain, tmp_path / "run")


def test_where_one_rank_cannot_read_all_go_on_together(
    plain: Path, tiny_backbone: Path, data: Path, tmp_path: Path
) -> None:
    changes = {"plugins": [str(tmp_path / "failing.py")], **OTHER_DIGITS}
    spec = write(tmp_path, tiny_backbone, data, **changes)
    (tmp_path / "failing.py").write_text(FAILING)
    command = ["run", str(spec), "--run-dir", str(tmp_path / "run")]
    own = {"HARNESS_CACHE": str(tmp_path / "cache")}
    ended = run_ranks(
        tmp_path / "logs",
        2,
        *command,
        "-o=cluster.strategy=multiworker",
        each=lambda rank: {**own, "WHO": str(rank)},
    )
    assert_all(ended)
    assert_equal_losses(plain, tmp_path / "run")
    assert "Input/output error" in record(spec)["feature_cache"]["train"]["lost"]


def test_stopped_while_a_later_phase_computes_its_own_it_ends_with_the_same_bits(
    tiny_backbone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a real signal, with some of the files written and some not."""
    monkeypatch.setattr(feature_store, "_LEAST_ROWS", 8)
    phases = [
        {"name": "small", "epochs": 2, "learning_rate": 0.01},
        {"name": "large", "epochs": 2, "learning_rate": 0.003, "image_size": 24},
    ]
    changes = {"training.phases": phases}
    whole = write(tmp_path / "whole", tiny_backbone, data, **changes)
    run_here(whole, tmp_path / "cache of whole")

    spec = write(tmp_path / "cut", tiny_backbone, data, **changes)
    cache = tmp_path / "cache"
    add, entries = Filling.add, []

    def adding(filling: Filling, *part: Any) -> None:
        add(filling, *part)
        entries.append(filling._entry)
        if len({id(one) for one in entries}) == 2 and len(filling.written) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1.5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Filling, "add", adding)
        run_here(spec, cache, code=75)
    assert len(entries[-1].missing()) not in (0, entries[-1].layout.chunks)
    said = run_here(spec, cache)
    assert said.count("computes the features of the train and validation examples once") == 1
    assert entries[-1].missing() == []
    assert_same_result(spec.parent / "run", whole.parent / "run")
    assert record(spec)["exact"] is True


def test_pruning_takes_nothing_that_a_run_reads(
    plain: Path, tiny_backbone: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "_TOUCH_S", 0.0)  # else each minute
    monkeypatch.setattr(featured, "memory_left", lambda *of: 0)
    cache = tmp_path / "cache"
    old = cache / "features" / ("0" * 64)
    old.mkdir(parents=True)
    (old / "entry.json").write_text(json.dumps({"format": 1}))
    (old / "used").touch()
    os.utime(old / "used", (0, 0))
    (tmp_path / "pruning.py").write_text(PRUNING)
    changes = {
        "plugins": [str(tmp_path / "pruning.py")],
        "training.callbacks": [{"plugin": "pruning"}],
    }
    spec = write(tmp_path, tiny_backbone, data, **changes)
    said = run_here(spec, cache)
    assert said.count("computes the features of the train and validation examples once") == 1
    assert "cannot be read" not in said
    assert not old.exists()
    keys = {key for one in record(spec)["feature_cache"].values() for key in one["keys"]}
    assert {path.name for path in (cache / "features").iterdir()} == keys
    assert_equal_losses(plain, tmp_path / "run")
