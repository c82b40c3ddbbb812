"""The audio job on some of its recordings, spoken anew: it learns, from voices to other voices."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.unit.rights import lacking

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "jobs"))

from audio_parts import words  # noqa: E402 - from the checkout, it is not installed

SOME = ("no", "stop", "yes")
LEAST_ACCURACY = 0.8
# Measured: 1.0 of three words, a third by chance.


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    """Three of the words, by half of the voices, and the front end."""
    from audio_parts import logmel

    if words.speaker() is None:
        lacking("espeak-ng is not installed; next: sudo .ci/system-packages speech")
    folder = tmp_path_factory.mktemp("audio_job")
    for part, voices in (("train", words.TRAIN_VOICES[::2]), ("test", words.TEST_VOICES[::2])):
        for one in words.utterances(voices):
            if one.word in SOME:
                words.write(one, folder / part)
    logmel.save_as_hub_module(logmel.FrontEnd(), folder / "backbone")
    return folder


def test_recordings_are_of_both_kinds_and_voices_of_one_side(job: Path) -> None:
    train, test = ([*(job / part).glob("*/*")] for part in ("train", "test"))
    files = [*train, *test]
    assert {path.suffix for path in files} == {".flac", ".wav"}
    voices = [{path.stem.split("-")[-2] for path in side} for side in (train, test)]
    assert all(voices) and not voices[0] & voices[1]
    info = soundfile.info(files[0])
    assert info.samplerate == 22_050 and 0.2 < info.duration < 2


def test_the_front_end_does_not_hear_when_a_word_is_said(job: Path) -> None:
    import tensorflow as tf

    front_end = tf.saved_model.load(str(job / "backbone"))
    draw = np.random.default_rng(1).normal(0, 0.2, 4800).astype("f4")
    early, late, silent = np.zeros((3, 16_000), "f4")
    early[1600:6400], late[8000:12800] = draw, draw
    found = front_end(tf.constant(np.stack([early, late, silent]))).numpy()
    assert found.shape == (3, 480) and np.isfinite(found).all()
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_it_learns_words_from_other_voices(job: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    values = {
        "backbone.handle": f"hub:{job / 'backbone'}",
        "data.train": job / "train",
        "data.test": job / "test",
        "training.phases.0.epochs": 8,
        "cluster.device": "cpu",
    }
    changes = [part for path, value in values.items() for part in ("-o", f"{path}={value}")]
    command = [sys.executable, "-m", "harness", "run", "jobs/audio_words.yaml"]
    subprocess.run([*command, "--run-dir", str(run_dir), *changes], cwd=ROOT, check=True)
    record = json.loads((run_dir / "run.json").read_text())
    assert record["classes"] == list(SOME) and record["exact"] is True
    assert record["final"]["test_accuracy"] >= LEAST_ACCURACY


def test_without_what_it_needs_the_preparation_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "jobs/audio_prepare.py", "--out", str(tmp_path / "audio")]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "espeak-ng is missing; next: sudo .ci/system-packages speech" in done.stderr
