"""A run on recordings: trained, killed, continued with the same bits, evaluated, used, exported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.cli.main import main
from tests.local.training_helpers import (
    assert_equal_losses,
    assert_same_result,
    call,
    mischief,
    write_spec,
)

HERTZ = {"high": (900, 1800), "low": (150, 500)}
EACH = 17


def write_tone(path: Path, label: str, number: int) -> None:
    """A tone in noise: WAV and FLAC, of several rates, lengths and channels."""
    draw = np.random.default_rng([sorted(HERTZ).index(label), number])
    rate = (8000, 16_000, 22_050)[number % 3]
    length = int(rate * draw.uniform(0.2, 0.4))
    samples = 0.4 * np.sin(2 * np.pi * draw.uniform(*HERTZ[label]) * np.arange(length) / rate)
    samples = np.stack([samples] * (1 + number % 2), 1) + draw.normal(0, 0.1, (length, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path.with_suffix((".wav", ".flac")[number % 2]), samples, rate)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for label in HERTZ:
        for number in range(EACH + 6):
            part = "train" if number < EACH else "test"
            write_tone(folder / part / label / f"{number:02}", label, number)
    (folder / "train" / "low" / "zz.wav").write_bytes(b"RIFF and nothing more")
    return folder


def audio_spec(folder: Path, backbone: Path, data: Path, **changes) -> Path:
    changes = {
        "task": "audio_classification",
        "data.image_size": None,
        "data.audio": {"rate_hz": 8000, "seconds": 0.3},
        "data.augment": {"time_shift": 0.2, "noise": 0.2, "spec_augment": {"time_masks": 1}},
        "data.corrupt": {"limit": "5%"},
        "head": {"dropout": 0.2},
        "training.phases": [
            {"name": "one", "epochs": 3, "learning_rate": 0.05},
            {"name": "two", "epochs": 2, "learning_rate": 0.02, "start_from": "best"},
        ],
    } | changes
    return write_spec(folder, backbone, data, **changes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_audio_backbone, data) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    spec = audio_spec(folder, tiny_audio_backbone, data, **mischief(folder))
    code, _, err = call("run", str(spec), "--run-dir", str(folder / "run"))
    assert code == 0, err
    return folder / "run"


@pytest.mark.core
def test_it_learns_and_names_what_it_cannot_read(undisturbed):
    record = json.loads((undisturbed / "run.json").read_text())
    assert record["final"]["test_accuracy"] >= 0.8
    assert record["exact"] is True
    assert record["counts"]["corrupt"] == 1
    (line,) = (undisturbed / "corrupt.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "low/zz.wav"
    assert json.loads(line)["reason"].startswith("WAV that cannot be read")


@pytest.mark.core
def test_killed_and_continued_it_ends_with_the_same_bits(
    tmp_path, tiny_audio_backbone, data, undisturbed
):
    spec = audio_spec(tmp_path, tiny_audio_backbone, data, **mischief(tmp_path, at=9, number=9))
    command = ("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert call(*command)[0] == -signal.SIGKILL
    code, _, err = call(*command)
    assert code == 0, err
    assert_same_result(tmp_path / "run", undisturbed)


SERVE = """
import json, sys
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
t = np.arange(2400) / 8000
audio = np.stack([0.5 * np.sin(2 * np.pi * hertz * t) for hertz in (300, 1200)])
audio = (audio + np.random.default_rng(1).normal(0, 0.1, audio.shape)).astype("float32")
answer = model.signatures["serving_default"](audio=tf.constant(audio))
print(json.dumps([label.decode() for label in answer["label"].numpy()]))
"""


def test_what_a_run_made_can_be_used(undisturbed, data, tmp_path, capsys):
    final = json.loads((undisturbed / "run.json").read_text())["final"]
    assert main(["evaluate", str(undisturbed), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures["accuracy"] == final["test_accuracy"]
    (tmp_path / "words.wav").write_text("no recording")
    names = [str(tmp_path / "words.wav"), str(data / "test")]
    assert main(["predict", str(undisturbed), "--json", *names]) == 4
    broken, *found = json.loads(capsys.readouterr().out)
    assert broken["error"] == "is no WAV or FLAC recording, or a damaged one"
    right = [one["label"] == Path(one["file"]).parent.name for one in found]
    assert len(right) == 12 and sum(right) / 12 == final["test_accuracy"]
    assert main(["export", str(undisturbed), "--to", str(tmp_path / "model")]) == 0
    command = [sys.executable, "-c", SERVE, str(tmp_path / "model")]
    served = subprocess.run(command, check=True, capture_output=True).stdout
    assert json.loads(served) == ["low", "high"]


def test_inspect_reads_recordings(tmp_path, tiny_audio_backbone, data, capsys):
    spec = audio_spec(tmp_path, tiny_audio_backbone, data)
    assert main(["inspect", str(spec), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["recordings"]
    assert facts["looked_at"] == 2 * EACH + 1
    assert list(facts["broken"]) == ["low/zz.wav"]
    assert 200 <= facts["milliseconds"]["least"] < facts["milliseconds"]["most"] <= 401
    assert main(["inspect", str(spec)]) == 0
    assert " ms" in capsys.readouterr().out


def test_any_step_can_be_the_first(data):
    from harness.data.content import content_of
    from harness.data.index import folder_index
    from harness.data.media import AUDIO
    from harness.data.order import Order
    from harness.data.pipeline import Feed
    from harness.spec.models_augment import Augment, SpecAugment
    from harness.spec.models_data import Audio

    content = content_of("audio", Audio(rate_hz=8000, seconds=0.3))
    augment = Augment(time_shift=0.2, noise=0.2, spec_augment=SpecAugment())
    index = folder_index(data / "train", medium=AUDIO)
    order = Order(len(index), 8, 8, 5, 4, 2)
    feed = Feed(index, order=order, augment=content.augmenter(augment, 5), content=content)
    whole = list(feed.training(0, 0, None).take(8).as_numpy_iterator())
    later = list(feed.training(0, 3, None).take(5).as_numpy_iterator())
    for one, other in zip(whole[3:], later, strict=True):
        assert set(one) == {"audio", "label", "mask", "weight", "index"}
        assert one["audio"].shape == (8, 2400) and one["audio"].dtype == np.float32
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)
    rows = [list(index.names).index("low/zz.wav")]
    masks = [m for b in whole[:5] for r, m in zip(b["index"], b["mask"], strict=True) if r in rows]
    assert masks and not any(masks)


def test_packed_recordings_give_the_run_of_their_folder(
    tmp_path, tiny_audio_backbone, data, undisturbed
):
    for part in ("train", "test"):
        command = ["pack", str(data / part), str(tmp_path / part), "--medium", "audio"]
        assert main(command) == 0
    spec = audio_spec(tmp_path, tiny_audio_backbone, tmp_path, **mischief(tmp_path))
    code, _, err = call("run", str(spec), "--run-dir", str(tmp_path / "run"))
    assert code == 0, err
    # The recording that is none is named as it is in the folder.
    (line,) = (tmp_path / "run" / "corrupt.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "low/zz.wav"
    assert_equal_losses(undisturbed, tmp_path / "run", relative=1e-6)
