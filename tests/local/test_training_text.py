"""A run on texts: trained, killed and continued with the same bits, evaluated, used, exported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.cli.main import main
from harness.errors import DataError
from tests.local.text_helpers import TEXTS, data, index
from tests.local.training_helpers import (
    assert_equal_losses,
    assert_same_result,
    call,
    lines,
    mischief,
    write_spec,
)

__all__ = ["data", "index"]  # fixtures, found by their names


def text_spec(folder: Path, backbone: Path, data: Path, **changes) -> Path:
    changes = {
        "task": "text_classification",
        "data.train": str(data / "train.tsv"),
        "data.image_size": None,
        "data.columns": {"text": "what"},
        "data.augment": {"word_drop": 0.2},
        "head": {"dropout": 0.3},
        "training.phases": [
            {"name": "one", "epochs": 3, "learning_rate": 0.05},
            {"name": "two", "epochs": 3, "learning_rate": 0.02, "start_from": "best"},
        ],
    } | changes
    return write_spec(folder, backbone, data, **changes)


def test_packed_texts_give_the_run_of_their_folder(tmp_path, tiny_text_backbone, data, capsys):
    where = {"folder": data / "test", "packed": tmp_path / "packed"}
    assert main(["pack", str(where["folder"]), str(where["packed"]), "--medium", "text"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(where["packed"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"cat": 8, "dog": 8} and not found["texts"]["broken"]
    runs = {}
    for name, path in where.items():
        (tmp_path / name).mkdir(exist_ok=True)
        changes = {"data.train": str(path), "data.columns": {}, "data.test": str(path)}
        spec = text_spec(tmp_path, tiny_text_backbone, data, **changes)
        runs[name] = tmp_path / f"run-{name}"
        assert main(["run", str(spec), "--run-dir", str(runs[name])]) == 0, capsys.readouterr()
    assert_equal_losses(*runs.values(), relative=1e-6)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_text_backbone, data) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = text_spec(folder, tiny_text_backbone, data, **mischief(folder))
    code, _, err = call("run", str(spec), "--run-dir", str(folder / "run"))
    assert code == 0, err
    return folder / "run"


@pytest.mark.core
def test_it_learns_and_records_what_it_saw(undisturbed):
    record = json.loads((undisturbed / "run.json").read_text())
    counts = record["counts"]
    assert counts["train"] + counts["validation"] == TEXTS and counts["test"] == 16
    assert record["classes"] == ["cat", "dog"]
    assert record["final"]["test_accuracy"] >= 0.8
    assert record["exact"] is True
    assert record["data_digest"]["train"].startswith("manifest:")
    assert "image_size: null" in (undisturbed / "spec.yaml").read_text()


@pytest.mark.core
def test_killed_and_continued_it_ends_with_the_same_bits(
    tmp_path, tiny_text_backbone, data, undisturbed
):
    spec = text_spec(tmp_path, tiny_text_backbone, data, **mischief(tmp_path, at=11, number=9))
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command)[0] == -signal.SIGKILL
    code, _, err = call(*command)
    assert code == 0, err
    assert_same_result(tmp_path / "run", undisturbed)
    begun = [line for line in lines(tmp_path / "run" / "attempts.jsonl") if line["event"] == "end"]
    assert begun[0]["from_step"] > 0


def test_evaluate_and_predict_take_files_folders_and_manifests(undisturbed, data, tmp_path, capsys):
    final = json.loads((undisturbed / "run.json").read_text())["final"]
    assert main(["evaluate", str(undisturbed), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures["accuracy"] == final["test_accuracy"]
    (tmp_path / "broken.txt").write_bytes(b"caf\xe9 barks")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "new.tsv").write_text(
        'id\twhat\n1\tbarks digs howls wags\n2\t"purrs meows\nnaps hunts"\n'
    )
    names = [str(tmp_path / name) for name in ("broken.txt", "empty.txt", "new.tsv")]
    assert main(["predict", str(undisturbed), "--json", *names, str(data / "test")]) == 4
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found[:4]] == [*names[:2], f"{names[2]}:2", f"{names[2]}:3"]
    assert [one.get("error") for one in found[:2]] == ["is no UTF-8 text, or an empty one"] * 2
    assert [one["label"] for one in found[2:4]] == ["dog", "cat"]
    right = [one["label"] == Path(one["file"]).parent.name for one in found[4:]]
    assert len(right) == 16 and sum(right) / 16 == final["test_accuracy"]


SERVE = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["serving_default"](texts=tf.constant(sys.argv[2:]))
print(json.dumps([label.decode() for label in answer["label"].numpy()]))
"""


def test_the_export_takes_texts(undisturbed, tmp_path):
    assert main(["export", str(undisturbed), "--to", str(tmp_path / "model")]) == 0
    command = [
        sys.executable,
        "-c",
        SERVE,
        str(tmp_path / "model"),
        " barks digs howls\n",
        "purrs meows naps",
    ]
    served = subprocess.run(command, check=True, capture_output=True).stdout
    assert json.loads(served) == ["dog", "cat"]


def test_inspect_reads_texts(tmp_path, tiny_text_backbone, data, capsys):
    spec = text_spec(tmp_path, tiny_text_backbone, data)
    assert main(["inspect", str(spec)]) == 0
    said = capsys.readouterr().out
    assert f"{TEXTS} examples of 2 classes" in said
    assert f"read       {TEXTS} of {TEXTS}" in said
    assert "words      8" in said and "characters " in said and "broken     0" in said
    assert main(["inspect", str(spec), "--augment", str(tmp_path / "grid.png")]) == 2
    assert "a grid is of pictures" in capsys.readouterr().err
    folder = ["-o", f"data.train={data / 'test'}", "-o", "data.columns={}", "-o", "data.test=null"]
    (data / "test" / "cat" / "odd.txt").write_bytes(b"\xff")
    try:
        assert main(["inspect", str(spec), "--json", *folder]) == 0
    finally:
        (data / "test" / "cat" / "odd.txt").unlink()
    facts = json.loads(capsys.readouterr().out)["texts"]
    assert facts["looked_at"] == 17
    assert facts["broken"] == {"cat/odd.txt": "not UTF-8 (byte 0xff at 0)"}


def test_plan_knows_nothing_of_pixels(tmp_path, tiny_text_backbone, data, capsys):
    spec = text_spec(tmp_path, tiny_text_backbone, data)
    assert main(["plan", str(spec)]) == 0
    said = capsys.readouterr().out
    assert " px" not in said and "batch bytes" not in said
    assert "train" in said and "epochs of" in said


@pytest.mark.parametrize(
    ("backbone", "problem"),
    [
        ({"signature": "both", "output": "pooled_output"}, None),
        ({"signature": "both", "output": "pooled"}, "backbone.output"),
        ({"signature": "none", "output": "pooled"}, "backbone.signature"),
        ({"output": "pooled_output"}, "backbone.output"),
    ],
)
def test_a_signature_and_an_output_can_be_chosen(backbone, problem, tiny_text_backbone):
    import tensorflow as tf

    from harness.model import backbone as backbones
    from harness.model.fit import check_fit

    def load():
        called = backbones.Called(**backbone)
        found = backbones.load_hub(tiny_text_backbone, "hub:x", "0", called)
        check_fit(found.layer, tf.TensorSpec([], tf.string, "texts"))
        return found

    if problem is None:
        own = backbones.load_hub(tiny_text_backbone, "hub:x", "0", backbones.Called())
        texts = tf.constant(["a cat", "dogs bark a lot"])
        np.testing.assert_array_equal(load().layer(texts), own.layer(texts))
        return
    with pytest.raises(DataError) as caught:
        load()
    assert caught.value.problems[0].path == problem


def test_a_module_of_pictures_takes_no_texts(tmp_path, tiny_backbone, data):
    spec = text_spec(tmp_path, tiny_backbone, data)
    with pytest.raises(DataError, match="the backbone does not take these texts"):
        harness.run(spec, run_dir=tmp_path / "run", quiet=True)


def test_two_devices_have_the_losses_of_one(tmp_path, tiny_text_backbone, data, undisturbed):
    two = {"cluster.strategy": "mirrored", "cluster.replicas_per_rank": 2}
    spec = text_spec(tmp_path, tiny_text_backbone, data, **two)
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 0, err
    assert_equal_losses(tmp_path / "run", undisturbed)
