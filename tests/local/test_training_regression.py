"""Numbers learned for real from a manifest: of pictures, texts and recordings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import tensorflow as tf

import harness
from harness.cli.main import main
from harness.errors import DataError
from tests.local.training_helpers import assert_same_result, call, lines, mischief, write_spec

EXAMPLES = 60
SPLITS = ("train",) * 7 + ("val", "test", "test")


def values_of(number: int) -> tuple[float, float]:
    """How light and how red a picture is: two targets of very different units."""
    light, red = np.random.default_rng(number).uniform(0.1, 0.9, 2).tolist()
    return 5000 + 1000 * light, red / 1000


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of one colour; of every fourth it is not known how red it is."""
    folder = tmp_path_factory.mktemp("data")
    rows = ["file,light,red,use"]
    for number in range(EXAMPLES):
        light, red = values_of(number)
        colour = [255 * 1000 * red, *2 * [255 * (light - 5000) / 1000]]
        picture = np.broadcast_to(np.rint(colour).astype(np.uint8), (16, 16, 3))
        (folder / f"{number:02}.png").write_bytes(tf.io.encode_png(picture).numpy())
        cell = "NA" if number % 4 == 0 else repr(red)
        rows.append(f"{number:02}.png,{light!r},{cell},{SPLITS[number % 10]}")
    rows.append("gone.png,,NA,train")  # nothing known: left out before it is looked at
    (folder / "all.csv").write_text("\n".join(rows))
    return folder


def changes(data):
    return {
        "task": "image_regression",
        "data.train": str(data / "all.csv"),
        "data.test": None,
        "data.columns": {"labels": ["light", "red"], "split": "use"},
        "data.augment": {"flip": "horizontal"},
        "data.balance": "none",
        "head": {"hidden": [16]},
        "training.phases": [{"name": "one", "epochs": 22, "learning_rate": 0.05}],
        "checkpoint.every": "30 steps",
        "logging.every": "5 steps",
    }


@pytest.fixture(scope="module")
def result(tmp_path_factory, tiny_backbone, data):
    folder = tmp_path_factory.mktemp("regression")
    spec = write_spec(folder, tiny_backbone, data, **changes(data))
    return harness.run(spec, run_dir=folder / "run", quiet=True)


def test_it_learns_and_records_in_the_units_of_the_targets(result):
    record = json.loads((result.path / "run.json").read_text())
    assert record["classes"] == ["light", "red"]
    assert record["counts"]["train"] == 42
    assert record["counts"]["missing"] == {"train": {"label_dropped": 1}}
    train = [number for number in range(EXAMPLES) if SPLITS[number % 10] == "train"]
    light = [values_of(number)[0] for number in train]
    red = [values_of(number)[1] for number in train if number % 4]
    for name, wanted in (("light", light), ("red", red)):
        kept = record["targets"][name]
        assert kept["mean"] == pytest.approx(np.mean(wanted), rel=1e-12)
        assert kept["std"] == pytest.approx(np.std(wanted), rel=1e-12)
    assert record["best"]["metric"] == "val_loss"
    found = result.metrics
    assert found["test_r2"] >= 0.9, found
    assert found["test_r2"] == pytest.approx((found["test_light_r2"] + found["test_red_r2"]) / 2)
    assert found["test_light_mae"] <= 80 and found["test_red_mae"] <= 8e-5
    assert found["test_light_rmse"] >= found["test_light_mae"]


def test_a_killed_run_and_two_devices_end_with_the_same(result, data, tmp_path, tiny_backbone):
    two = {"cluster.strategy": "mirrored", "cluster.replicas_per_rank": 2}
    for name, more in (("killed", mischief(tmp_path / "killed", at=40)), ("two", two)):
        (tmp_path / name).mkdir()
        spec = write_spec(tmp_path / name, tiny_backbone, data, **changes(data) | more)
        command = ("run", str(spec), "--run-dir", str(tmp_path / name / "run"))
        code, _, err = call(*command)
        if name == "killed":
            assert code == -9
            code, _, err = call(*command)
        assert code == 0, err
    assert_same_result(result.path, tmp_path / "killed" / "run")
    one, other = (lines(run / "metrics.jsonl") for run in (result.path, tmp_path / "two" / "run"))
    assert len(one) == len(other) > 40
    for line, its in zip(one, other, strict=True):
        for name in ("loss", "mae", "light_rmse", "red_mae"):
            np.testing.assert_allclose(line[name], its[name], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(one[0]["loss"], other[0]["loss"], rtol=1e-5)


def test_predict_evaluate_and_export_say_the_same(result, data, tmp_path, capsys):
    test = [number for number in range(EXAMPLES) if SPLITS[number % 10] == "test"]
    names = [str(data / f"{number:02}.png") for number in test]
    assert main(["predict", str(result.path), *names, "--json"]) == 0
    said = [one["values"] for one in json.loads(capsys.readouterr().out)]
    off = [abs(one["light"] - values_of(n)[0]) for one, n in zip(said, test, strict=True)]
    assert main(["evaluate", str(result.path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures["light_mae"] == pytest.approx(np.mean(off), rel=1e-3)
    assert figures["light_mae"] == pytest.approx(result.metrics["test_light_mae"])
    assert main(["evaluate", str(result.path)]) == 0
    assert f"  red_mae      {figures['red_mae']:.6g}\n" in capsys.readouterr().out
    assert main(["predict", str(result.path), names[0]]) == 0
    printed = capsys.readouterr().out
    assert printed == f"{names[0]}  light {said[0]['light']:.6g}  red {said[0]['red']:.6g}\n"
    assert main(["predict", str(result.path), names[0], "--top", "1"]) == 2
    assert main(["evaluate", str(result.path), "--data", str(tmp_path)]) == 4
    assert "gives each example a class, not a number" in capsys.readouterr().err
    assert main(["export", str(result.path), "--to", str(tmp_path / "model")]) == 0
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    answer = served(encoded=tf.constant([tf.io.read_file(name).numpy() for name in names]))
    assert sorted(answer) == ["values"]
    given = [[one["light"], one["red"]] for one in said]
    np.testing.assert_allclose(answer["values"].numpy(), given, rtol=1e-4)
    assert (tmp_path / "model" / "labels.txt").read_text() == "light\nred\n"
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["targets"] == json.loads((result.path / "run.json").read_text())["targets"]


def test_inspect_says_how_the_targets_are_spread(data, tmp_path, tiny_backbone, capsys):
    spec = write_spec(tmp_path, tiny_backbone, data, **changes(data))
    assert main(["inspect", str(spec), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["examples"], found["counts"]) == (42, {"light": 42, "red": 30})
    assert found["imbalance"] is None and found["targets"]["light"]["least"] >= 5100
    assert main(["inspect", str(spec)]) == 0
    printed = capsys.readouterr().out
    assert "42 examples of 2 targets" in printed and "mean 55" in printed


def test_a_constant_target_is_refused(tmp_path, tiny_backbone, data):
    (tmp_path / "same.csv").write_text(
        "file,label\n" + "".join(f"{n:02}.png,3\n" for n in range(9))
    )
    more = {"data.train": str(tmp_path / "same.csv"), "data.root": str(data), "data.columns": {}}
    spec = write_spec(tmp_path, tiny_backbone, data, **changes(data) | more)
    with pytest.raises(DataError, match=r"nothing to learn of the target 'label'.*3\.0 for all"):
        harness.run(spec, run_dir=tmp_path / "run", quiet=True)


def of_texts(folder):
    """How many of a text's words are good."""
    rows = ["what\tscore"]
    for number in range(48):
        words = np.random.default_rng(number).choice(["good", "bad"], 8)
        rows.append(f"{' '.join(words)} {number}\t{np.mean(words == 'good')}")
    (folder / "all.tsv").write_text("\n".join(rows))
    return {"task": "text_regression", "data.columns": {"text": "what", "label": "score"}}


def of_recordings(folder):
    """How high a tone is."""
    rows = ["file\tscore"]
    for number in range(48):
        hertz = 200 + 70 * number
        samples = 0.5 * np.sin(2 * np.pi * hertz * np.arange(2400) / 8000)
        soundfile.write(folder / f"{number}.wav", samples, 8000)
        rows.append(f"{number}.wav\t{hertz}")
    (folder / "all.tsv").write_text("\n".join(rows))
    audio = {"rate_hz": 8000, "seconds": 0.3}
    return {"task": "audio_regression", "data.columns": {"label": "score"}, "data.audio": audio}


@pytest.mark.parametrize("make", [of_texts, of_recordings], ids=["texts", "recordings"])
def test_texts_and_recordings(make, tmp_path, tiny_text_backbone, tiny_audio_backbone, capsys):
    backbone = tiny_text_backbone if make is of_texts else tiny_audio_backbone
    more = make(tmp_path) | {
        "data.train": str(tmp_path / "all.tsv"),
        "data.test": str(tmp_path / "all.tsv"),
        "data.image_size": None,
        "data.augment": {},
        "data.balance": "none",
        "head": {},
        "training.phases": [{"name": "one", "epochs": 20, "learning_rate": 0.1}],
        "checkpoint.every": "10 epochs",
    }
    spec = write_spec(tmp_path, backbone, tmp_path, **more)
    found = harness.run(spec, run_dir=tmp_path / "run", quiet=True)
    assert found.metrics["test_r2"] >= 0.8, found.metrics
    assert not any(name.startswith("test_score") for name in found.metrics)
    assert main(["predict", str(found.path), str(tmp_path / "all.tsv"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    wanted = [
        float(row.split("\t")[1]) for row in (tmp_path / "all.tsv").read_text().split("\n")[1:]
    ]
    off = [abs(one["values"]["score"] - value) for one, value in zip(said, wanted, strict=True)]
    assert np.mean(off) == pytest.approx(found.metrics["test_mae"], rel=1e-3)
    assert main(["export", str(found.path)]) == 0
