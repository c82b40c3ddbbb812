"""Spoken words, by the voices of espeak-ng, as a folder of recordings for each word."""

from __future__ import annotations

import io
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

WORDS = ("down", "go", "left", "no", "right", "stop", "up", "yes")
"""Of those of the Speech Commands data set (Warden, 2018)."""
ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029")
TRAIN_VOICES = ("f1", "f2", "f4", "m1", "m2", "m3", "m5", "m7")
TEST_VOICES = ("f3", "f5", "m4", "m6")
"""No voice of the test is heard in training."""
SPEEDS = (130, 170)
"""Words a minute."""


class Utterance(NamedTuple):
    """A word as one voice says it."""

    word: str
    accent: str
    voice: str
    speed: int

    @property
    def file(self) -> str:
        """Half of the recordings are FLAC, to have both kinds."""
        ending = "flac" if self.speed == SPEEDS[0] else "wav"
        return f"{self.word}/{self.accent}-{self.voice}-{self.speed}.{ending}"


def utterances(voices: tuple[str, ...]) -> list[Utterance]:
    """All words by all accents, speeds and these voices."""
    return [
        Utterance(word, accent, voice, speed)
        for word in WORDS
        for accent in ACCENTS
        for voice in voices
        for speed in SPEEDS
    ]


def speaker() -> str | None:
    """The program that speaks; None where it is not installed."""
    return shutil.which("espeak-ng")


def spoken(one: Utterance) -> bytes:
    """The WAV file that espeak-ng gives: 22,050 Hz, 16 bits, one channel.

    Raises:
        RuntimeError: it gives none; says what it said.
    """
    program = speaker()
    if program is None:
        raise RuntimeError("espeak-ng is not installed")
    voice = f"{one.accent}+{one.voice}"
    command = [program, "-v", voice, "-s", str(one.speed), "--stdout", one.word]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - fixed words
    if done.returncode or not done.stdout.startswith(b"RIFF"):
        said = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"espeak-ng gives no recording with {voice}: {said}")
    return done.stdout


def write(one: Utterance, folder: Path) -> None:
    """Writes one recording below ``folder``."""
    import soundfile

    # Its header holds the length of a stream that it did not know yet, so it is written anew.
    samples, rate = soundfile.read(io.BytesIO(spoken(one)), dtype="int16")
    path = folder / one.file
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")


def write_all(folder: Path) -> dict[str, int]:
    """Writes ``folder``/train and test; returns how many recordings each holds."""
    parts = {"train": utterances(TRAIN_VOICES), "test": utterances(TEST_VOICES)}
    with ThreadPoolExecutor(4) as pool:
        for name, some in parts.items():
            list(pool.map(lambda one, name=name: write(one, folder / name), some))
    return {name: len(some) for name, some in parts.items()}
