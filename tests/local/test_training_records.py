"""Runs from TFRecord files of others: exact through a kill, as good as from the pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import harness
from harness.cli.main import main
from harness.errors import DataError
from tests.local.rank_helpers import assert_all, run_workers
from tests.local.training_helpers import (
    CLASSES,
    assert_same_result,
    call,
    curve,
    lines,
    mischief,
    write_spec,
)
from tests.unit.record_helpers import (
    example,
    flip,
    record_start,
    write_records,
    write_tfds,
)

FEATURES = {"image": "image/encoded", "label": "image/class/label", "names": list(CLASSES)}


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_pictures) -> Path:
    """Two files for training, with a damaged record, and one for the test."""
    folder = tmp_path_factory.mktemp("records")
    write_pictures(folder / "pictures", CLASSES, 16, 16)
    made = [
        example({"image/encoded": file.read_bytes(), "image/class/label": label})
        for label, name in enumerate(CLASSES)
        for file in sorted((folder / "pictures" / name).iterdir())
    ]
    test = [made.pop(at) for at in range(44, -1, -4)]
    middle = len(made) // 2
    for number, part in enumerate((made[:middle], made[middle:])):
        write_records(folder / "all" / f"train-{number:05d}-of-00002", part)
    write_records(folder / "all" / "test-00000-of-00001", test)
    damaged = folder / "all" / "train-00000-of-00002"
    # In the picture, not in the features around it.
    flip(damaged, record_start(damaged, 3) + 100)
    return folder / "all"


def records_spec(folder: Path, backbone: Path, data: Path, **changes) -> Path:
    changes = {
        "data.train": str(data / "train-*"),
        "data.test": str(data / "test-*"),
        "data.features": FEATURES,
        "data.corrupt": {"limit": "10%"},
        "training.phases": [{"name": "one", "epochs": 3, "learning_rate": 0.02}],
    } | changes
    return write_spec(folder, backbone, data, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_backbone, data) -> Path:
    folder = tmp_path_factory.mktemp("run")
    # With a callback that does nothing, so that the spec is that of the killed run.
    (folder / "mark").touch()
    spec = records_spec(folder, tiny_backbone, data, **mischief(folder, at=7))
    harness.run(spec, run_dir=folder / "run", quiet=True)
    return folder / "run"


def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(run, tmp_path, tiny_backbone, data):
    spec = records_spec(tmp_path, tiny_backbone, data, **mischief(tmp_path, at=7))
    assert call("run", str(spec), "--run-dir", str(tmp_path / "run"))[0] == -9
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 0, err
    assert_same_result(run, tmp_path / "run")
    assert len(lines(tmp_path / "run" / "attempts.jsonl")) >= 2


def test_the_record_and_the_account_of_what_is_damaged(run):
    record = json.loads((run / "run.json").read_text())
    counts = record["counts"]
    assert counts["train"] + counts["validation"] == 36
    assert counts["test"] == 12
    assert record["classes"] == list(CLASSES)
    assert record["data_digest"]["test"].startswith("records:")
    assert record["exact"] is True
    (broken,) = lines(run / "corrupt.jsonl")
    assert broken["name"] == "train-00000-of-00002#00000003"
    assert broken["reason"] == "its record has a wrong checksum"
    assert curve(run)


def test_evaluate_and_predict(run, data, capsys):
    record = json.loads((run / "run.json").read_text())
    assert main(["evaluate", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures["accuracy"] == pytest.approx(record["final"]["test_accuracy"])
    assert main(["predict", str(run), "--json", str(data / "test-00000-of-00001")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found][:1] == ["test-00000-of-00001#00000000"]
    truth = [CLASSES[at // 16] for at in range(44, -1, -4)]
    right = sum(one["label"] == name for one, name in zip(found, truth, strict=True))
    assert right / 12 == pytest.approx(figures["accuracy"])
    assert main(["predict", str(run), "--json", str(data / "train-00000-of-00002")]) == 4
    bad = [one for one in json.loads(capsys.readouterr().out) if "error" in one]
    assert [one["error"] for one in bad] == ["its record has a wrong checksum"]
    picture = data.parent / "pictures" / "red" / "001.png"
    assert main(["predict", str(run), "--json", str(picture)]) == 0


def test_other_records_are_other_data(run, data):
    file = data / "test-00000-of-00001"
    (run / "FINISHED").rename(run / "kept")
    shutil.copy2(file, data.parent / "kept")
    try:
        flip(file, record_start(file, 1) - 1)
        with pytest.raises(DataError, match="the test data have changed"):
            harness.run(run / "spec.yaml", run_dir=run, quiet=True)
    finally:
        shutil.copy2(data.parent / "kept", file)
        (run / "kept").rename(run / "FINISHED")
        (run / "FAILED").unlink(missing_ok=True)


def test_inspect_validate_and_plan(run, tmp_path, tiny_backbone, data, capsys):
    spec = str(records_spec(tmp_path, tiny_backbone, data))
    assert main(["validate", spec]) == 0
    assert main(["plan", spec]) == 0
    capsys.readouterr()
    assert main(["inspect", spec, "--all", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["counts"] == {"blue": 12, "green": 12, "red": 12}
    assert facts["pictures"]["broken"] == {
        "train-00000-of-00002#00000003": "its record has a wrong checksum"
    }
    assert facts["pictures"]["kinds"] == {"PNG": 35}
    assert main(["validate", spec, "-o", f"data.train={data / 'gone' / 'train-*'}"]) != 0
    assert "does not exist" in capsys.readouterr().err


def test_a_directory_of_tensorflow_datasets(tmp_path, tiny_backbone, data, capsys):
    made = [
        example({"image": file.read_bytes(), "id": file.name, "label": label})
        for label, name in enumerate(CLASSES)
        for file in sorted((data.parent / "pictures" / name).iterdir())
    ]
    splits = {"train": [made[::4], made[1::4]], "validation": [made[2::4]], "test": [made[3::4]]}
    folder = str(write_tfds(tmp_path / "little" / "1.0.0", splits, names=CLASSES))
    changes = {f"data.{split}": folder for split in splits}
    changes |= {"data.features": None} | mischief(tmp_path, at=5)
    spec = str(records_spec(tmp_path, tiny_backbone, data, **changes))
    assert main(["validate", spec]) == 0
    assert call("run", spec, "--run-dir", str(tmp_path / "killed"))[0] == -9
    harness.run(spec, run_dir=tmp_path / "killed", quiet=True)
    harness.run(spec, run_dir=tmp_path / "whole", quiet=True)
    assert_same_result(tmp_path / "killed", tmp_path / "whole")
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    counts = {split: record["counts"][split] for split in splits}
    assert counts == {"train": 24, "validation": 12, "test": 12}
    assert record["classes"] == list(CLASSES)
    capsys.readouterr()
    file = folder + "/little-test.tfrecord-00000-of-00001"
    assert main(["predict", str(tmp_path / "whole"), "--json", file]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 12
    assert main(["inspect", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"]["kinds"] == {"PNG": 24}


ARRAYS = """
import numpy as np
from harness.data.arrays import ArraySource
from harness.plugins import register

@register("source", "npz")
def npz(path, options):
    with np.load(path) as held:
        return ArraySource(held["x"], held["y"], classes=options["classes"])
"""


def test_arrays_of_a_plugin(tmp_path, tiny_backbone, data):
    import numpy as np

    (tmp_path / "arrays.py").write_text(ARRAYS)
    draw = np.random.default_rng(1)
    for name, count in (("train", 24), ("test", 12)):
        labels = np.arange(count) % 3
        pictures = draw.integers(0, 99, (count, 16, 16, 3), np.uint8)
        pictures[np.arange(count), ..., labels] += 120
        np.savez(tmp_path / f"{name}.npz", x=pictures, y=labels)
    changes = {f"data.{name}": str(tmp_path / f"{name}.npz") for name in ("train", "test")}
    changes |= {"data.features": None} | mischief(tmp_path, at=5)
    changes["data.source"] = {"plugin": "npz", "options": {"classes": list(CLASSES)}}
    changes["plugins"] = [str(tmp_path / "arrays.py"), *changes["plugins"]]
    spec = str(records_spec(tmp_path, tiny_backbone, data, **changes))
    assert call("run", spec, "--run-dir", str(tmp_path / "killed"))[0] == -9
    harness.run(spec, run_dir=tmp_path / "killed", quiet=True)
    harness.run(spec, run_dir=tmp_path / "whole", quiet=True)
    assert_same_result(tmp_path / "killed", tmp_path / "whole")
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert record["exact"] is True
    assert record["counts"]["test"] == 12
    assert main(["evaluate", str(tmp_path / "whole"), "--json"]) == 0
    (tmp_path / "whole" / "FINISHED").unlink()
    np.savez(tmp_path / "test.npz", x=pictures[::-1], y=labels)
    with pytest.raises(DataError, match="the test data have changed"):
        harness.run(spec, run_dir=tmp_path / "whole", quiet=True)


def test_texts_and_recordings_are_read_too(tmp_path):
    import numpy as np

    from harness.data.content import content_of
    from harness.data.inspect_contents import look_at_recordings, look_at_texts
    from harness.data.media import AUDIO, TEXT
    from harness.data.order import Order
    from harness.data.pipeline import Feed
    from harness.data.record_files import RecordOptions
    from harness.data.record_index import record_index
    from harness.spec.models_data import Audio

    words = [example({"t": f"word {n}", "l": n % 2}) for n in range(6)]
    words[4] = example({"t": b"\xff\xfe", "l": 0})
    write_records(tmp_path / "t.tfrecord", words)
    index = record_index(tmp_path / "t.tfrecord", RecordOptions("t", "l", medium=TEXT))
    feed = Feed(index, order=Order(6, 2, 2, 1, 2, 2), content=content_of("text"))
    got = {
        (row, text.decode(), mask)
        for batch in feed.training(0, 0, None).take(feed.steps_per_epoch).as_numpy_iterator()
        for row, text, mask in zip(batch["index"], batch["text"], batch["mask"], strict=True)
    }
    assert got == {(n, "" if n == 4 else f"word {n}", float(n != 4)) for n in range(6)}
    assert list(look_at_texts(index, None, range(6)).broken.values()) == [
        "not UTF-8 (byte 0xff at 0)"
    ]

    audio = Audio(rate_hz=1000, seconds=0.01)
    sounds = [example({"a": [float(n) / 8] * 10, "l": n % 2}) for n in range(4)]
    write_records(tmp_path / "a.tfrecord", sounds)
    options = RecordOptions("a", "l", rate_hz=1000, medium=AUDIO)
    index = record_index(tmp_path / "a.tfrecord", options)
    (batch,) = Feed(index, content=content_of("audio", audio)).evaluation(4, None)
    wanted = np.arange(4)[:, None] / 8 * np.ones([1, 10])
    np.testing.assert_array_equal(batch["audio"], wanted.astype(np.float32))
    assert look_at_recordings(index, None, range(4), audio).milliseconds.median == 10


def test_many_are_looked_through_once_for_all_ranks_and_starts(
    tmp_path, tiny_backbone, data, monkeypatch
):
    """Two ranks, then a later run: what was seen of 5,100 records is in the cache."""
    pictures = [next((data.parent / "pictures" / name).iterdir()).read_bytes() for name in CLASSES]
    made = [
        example({"image/encoded": pictures[n % 3], "image/class/label": n % 3}) for n in range(2550)
    ]
    for number in range(2):
        write_records(tmp_path / "many" / f"train-{number:05d}-of-00002", made)
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    changes = {
        "data.train": str(tmp_path / "many"),
        "data.validation": None,
        "data.test": None,
        "training.batch_size": 512,
        "training.phases": [{"name": "one", "epochs": 1, "learning_rate": 0.02}],
    }
    spec = records_spec(tmp_path, tiny_backbone, data, **changes)
    assert_all(run_workers(tmp_path, 2, "run", str(spec), "--run-dir", str(tmp_path / "two")))
    (entry,) = (cache / "records").iterdir()
    assert json.loads((entry / "entry.json").read_text())["examples"] == 5100

    def looked_again(*given, **more):
        raise AssertionError("it looked again")

    monkeypatch.setattr("harness.data.record_index.scan_file", looked_again)
    harness.run(spec, run_dir=tmp_path / "later", quiet=True)
    digests = [
        json.loads((tmp_path / run / "run.json").read_text())["data_digest"]
        for run in ("two", "later")
    ]
    assert digests[0] == digests[1]
