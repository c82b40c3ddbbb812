"""Bad input and bad surroundings: one paragraph, the right exit code, nothing lost."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.local.training_helpers import CLASSES, checkpoint_steps, lines, write_spec


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "train", CLASSES, 8, 16)
    write_pictures(folder / "test", CLASSES, 4, 16)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


def run(tmp_path: Path, spec: Path, capsys, *more: str) -> tuple[int, str]:
    code = main(["run", str(spec), "--run-dir", str(tmp_path / "run"), "--plain", *more])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err


def module(folder: Path, shape: tuple, function) -> Path:
    """Saves a module whose call on float32 images of ``shape`` is ``function``."""
    import tensorflow as tf

    saved = tf.Module()
    saved.__call__ = tf.function(
        lambda images: function(images), input_signature=[tf.TensorSpec(shape, tf.float32)]
    )
    tf.saved_model.save(saved, str(folder))
    return folder


def spatial(images):
    return images[:, ::2, ::2]


def mean(images):
    import tensorflow as tf

    return tf.reduce_mean(images, axis=(1, 2))


def empty(folder: Path) -> Path:
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"no model at all")
    return folder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: f.mkdir() or f, "is no SavedModel"),
        (empty, "cannot be loaded"),
        (lambda f: f, "does not exist"),
        (lambda f: module(f, (None, 32, 32, 3), mean), "does not take these images"),
        (lambda f: module(f, (None, None, None, 1), mean), "does not take these images"),
        (
            lambda f: module(f, (None, None, None, 3), spatial),
            "features of several places of an example",
        ),
    ],
    ids=["empty", "garbage", "missing", "size", "channels", "rank"],
)
def test_backbones_that_do_not_fit(make, words, tmp_path, data, capsys):
    spec = write_spec(tmp_path, make(tmp_path / "backbone"), data)
    code, err = run(tmp_path, spec, capsys)
    assert code in (2, 4) if words == "does not exist" else code == 4, err
    assert words in err or "there is no" in err
    assert "next" in err


def test_the_error_of_a_fixed_size_names_it(tmp_path, data, capsys):
    spec = write_spec(tmp_path, module(tmp_path / "b", (None, 32, 32, 3), mean), data)
    assert "32, 32, 3" in run(tmp_path, spec, capsys)[1]


def test_a_pinned_digest_that_differs(tmp_path, tiny_backbone, data, capsys):
    spec = write_spec(tmp_path, tiny_backbone, data, **{"backbone.digest": "0" * 64})
    code, err = run(tmp_path, spec, capsys)
    assert code == 4
    assert "the spec pins" in err


def test_a_backbone_that_others_may_write_to_is_not_loaded(
    tmp_path, tiny_backbone, data, capsys, monkeypatch
):
    copy = tmp_path / "backbone"
    shutil.copytree(tiny_backbone, copy)
    (copy / "saved_model.pb").chmod(0o666)
    spec = write_spec(tmp_path, copy, data)
    code, err = run(tmp_path, spec, capsys)
    assert code == 4
    assert "writable by everybody" in err
    (copy / "saved_model.pb").chmod(0o644)
    os.chown(copy / "saved_model.pb", 12345, -1)
    code, err = run(tmp_path, spec, capsys)
    assert code == 4
    assert "belongs to somebody else" in err
    digest = re.search(r"add ([0-9a-f]{64}) to trust.digests", err)
    config = tmp_path / "config" / "harness" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"trust:\n  digests: ['{digest[1]}']\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert run(tmp_path, spec, capsys)[0] == 0


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"cluster.device": "gpu"}, 3, "sees no GPU"),
        ({"checkpoint.best": {"metric": "val_dice"}}, 2, "val_f1"),
        ({"training.early_stopping": {"metric": "mae"}}, 2, "early_stopping.metric"),
    ],
    ids=["gpu", "best metric", "stopping metric"],
)
def test_said_before_training(changes, code, words, tmp_path, tiny_backbone, data, capsys):
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    found, err = run(tmp_path, spec, capsys)
    assert found == code, err
    assert words in err
    assert not checkpoint_steps(tmp_path / "run")
    # Nothing was trained, so nothing has failed: the same command tries again.
    assert not (tmp_path / "run" / "FAILED").exists()
    outcome = json.loads((tmp_path / "run" / "slurm" / "outcome-1.json").read_text())
    assert (outcome["outcome"], outcome["exit_code"]) == ("refused", code)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"HOROVOD_RANK": "0", "HOROVOD_SIZE": "2", "HARNESS_MEETING_S": "1"},
            "did not come within 1 s",
        ),
        ({"SLURM_PROCID": "x", "SLURM_STEP_NUM_TASKS": "2"}, "do not say where"),
    ],
    ids=["alone", "words"],
)
def test_ranks_that_do_not_meet_make_no_run(
    environment, words, tmp_path, tiny_backbone, data, capsys, monkeypatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found, err = run(tmp_path, write_spec(tmp_path, tiny_backbone, data), capsys)
    assert found == 3, err
    assert words in err
    assert not (tmp_path / "run").exists()


def test_a_home_that_cannot_be_written(tmp_path, tiny_backbone, data, capsys, monkeypatch):
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/no-home")
    spec = write_spec(tmp_path, tiny_backbone, data)
    code, err = run(tmp_path, spec, capsys)
    assert code == 0, err
    assert "the cache is kept in" in err


NAN = """
import tensorflow as tf
import tf_keras
from harness.plugins import register

class Breaks(tf_keras.layers.Layer):
    def __init__(self, draws):
        super().__init__()
        self.draws = draws
    def call(self, x, training=False):
        bad = tf.logical_and(bool(training), self.draws.step >= 7)
        return x * tf.where(bad, float("nan"), 1.0)

@register("head", "breaks")
def breaks(features, outputs, draws):
    return Breaks(draws)(tf_keras.layers.Dense(outputs)(features))
"""


def test_a_loss_that_is_not_finite_halts_and_is_never_saved(tmp_path, tiny_backbone, data, capsys):
    (tmp_path / "nan.py").write_text(NAN)
    changes = {"plugins": [str(tmp_path / "nan.py")], "head": {"plugin": "plugin:breaks"}}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes)
    code, err = run(tmp_path, spec, capsys)
    assert code == 1
    assert "the loss of step 7" in err
    assert (tmp_path / "run" / "FAILED").exists()
    assert max(checkpoint_steps(tmp_path / "run")) <= 7
    outcome = json.loads((tmp_path / "run" / "slurm" / "outcome-1.json").read_text())
    assert outcome["outcome"] == "failed"


def spoil(folder: Path) -> None:
    (folder / "red" / "000.png").write_bytes(b"")
    (folder / "red" / "001.png").write_bytes(b"these are words")


@pytest.mark.parametrize(
    ("corrupt", "code"),
    [
        ({"policy": "fail", "limit": "0%"}, 4),
        ({"policy": "skip", "limit": "1%"}, 4),
        ({"policy": "skip", "limit": "20%"}, 0),
    ],
    ids=["fail", "above the limit", "within the limit"],
)
def test_unreadable_pictures(corrupt, code, tmp_path, tiny_backbone, write_pictures, capsys):
    folder = tmp_path / "own"
    write_pictures(folder / "train", CLASSES, 8, 16)
    write_pictures(folder / "test", CLASSES, 4, 16)
    spoil(folder / "train")
    spec = write_spec(tmp_path, tiny_backbone, folder, **{"data.corrupt": corrupt})
    found, err = run(tmp_path, spec, capsys)
    assert found == code, err
    named = {line["name"]: line["reason"] for line in lines(tmp_path / "run" / "corrupt.jsonl")}
    assert set(named) <= {"red/000.png", "red/001.png"}
    assert named
    if code:
        assert "red/00" in err
    else:
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        assert record["counts"]["corrupt"] == 2
        assert named["red/000.png"] == "empty"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: (f / "only").mkdir(parents=True), "only"),
        (lambda f: f.mkdir(), "class"),
    ],
    ids=["one class", "no class"],
)
def test_data_folders_that_do_not_do(make, words, tmp_path, tiny_backbone, data, capsys):
    make(tmp_path / "other")
    spec = write_spec(tmp_path, tiny_backbone, data, **{"data.train": str(tmp_path / "other")})
    code, err = run(tmp_path, spec, capsys)
    assert code == 4
    assert words in err


def test_a_run_that_has_no_checkpoint_cannot_predict(tmp_path, tiny_backbone, data, capsys):
    spec = write_spec(tmp_path, tiny_backbone, data, **{"cluster.device": "gpu"})
    run(tmp_path, spec, capsys)
    picture = str(data / "test" / "red" / "000.png")
    assert main(["predict", str(tmp_path / "run"), picture]) == 2
    assert "nothing to use yet" in capsys.readouterr().err
