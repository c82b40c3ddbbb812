"""Recordings: what is read, what is refused, and what augmentation does to them."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import soundfile

from harness.errors import EnvironmentNotAble, SpecError
from harness.spec import load_spec
from harness.spec.models_augment import Augment, SpecAugment
from harness.spec.models_data import Audio
from tests.unit.spec_helpers import changed

tf = pytest.importorskip("tensorflow")

from harness.data.audio import audio_fault, check_installed, decoder, read_audio  # noqa: E402
from harness.data.augment import example_key  # noqa: E402
from harness.data.augment_audio import AudioAugmenter, frame_length, masked, shifted  # noqa: E402
from harness.data.content import Recordings  # noqa: E402

RATE = 8000
decode = decoder(RATE)
AUDIO = Audio(rate_hz=RATE, seconds=0.5)


def tone(hertz: float, rate: int = RATE, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype("f4")


def file_of(samples: np.ndarray, rate: int, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_U8"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
    ],
)
def test_wav_and_flac_of_all_kinds_give_the_same_samples(kind, subtype):
    found = read_audio(file_of(tone(440), RATE, kind, subtype), RATE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tone(440), atol=0.01 if subtype == "PCM_U8" else 1e-4)
    same = decode(tf.constant(file_of(tone(440), RATE, kind, subtype)))
    np.testing.assert_array_equal(same, found)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 4_000])
def test_other_rates_are_resampled(rate):
    found = read_audio(file_of(tone(440, rate), rate), RATE)
    assert len(found) == pytest.approx(0.5 * RATE, abs=1)
    middle = slice(400, 3600)
    np.testing.assert_allclose(found[middle], tone(440)[middle], atol=5e-3)


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    found = read_audio(file_of(tone(6000, 44_100), 44_100), RATE)
    assert np.abs(found[400:3600]).max() < 1e-3


def test_channels_are_mixed():
    both = np.stack([tone(440), -tone(440)], axis=1)
    assert np.abs(read_audio(file_of(both, RATE, subtype="FLOAT"), RATE)).max() < 1e-6


BROKEN = {
    "words.wav": (b"not a recording", "not a recording (WAV or FLAC)"),
    "empty.wav": (b"", "empty"),
    "none.wav": (file_of(np.zeros(0, "f4"), RATE), "a recording without a sample"),
    "cut.flac": (file_of(tone(440), RATE, "FLAC")[:60], "FLAC that cannot be read: "),
    "nan.wav": (
        file_of(np.array([0, np.nan], "f4"), RATE, subtype="FLOAT"),
        "a recording with samples that are no numbers",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_fail_and_say_why(name, tmp_path):
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    assert audio_fault(tmp_path / name).startswith(reason)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(content))


def test_a_missing_file_is_said(tmp_path):
    assert audio_fault(tmp_path / "gone.wav") == "missing"
    assert audio_fault(tmp_path).startswith("cannot be read")


@pytest.mark.parametrize("count", [1, 3999, 4000, 4001, 9000])
def test_recordings_are_cut_or_padded_at_their_end(count):
    samples = np.arange(1, count + 1, dtype="f4")
    found = Recordings(AUDIO).prepare(tf.constant(samples), None).numpy()
    wanted = np.zeros(4000, "f4")
    wanted[: min(count, 4000)] = samples[:4000]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("part", "by"), [(0.25, 1), (-0.5, -2), (1.0, 4), (-1.0, -4), (0.0, 0)])
def test_shifts_leave_silence(part, by):
    found = shifted(tf.constant([1.0, 2.0, 3.0, 4.0]), tf.constant(part)).numpy()
    wanted = [at - by + 1 if 0 <= at - by < 4 else 0 for at in range(4)]
    assert found.tolist() == wanted


def seeds(number: int) -> list:
    return [tf.constant([number, use], tf.int64) for use in (1, 2)]


@pytest.mark.parametrize("count", [100, 511, 4000, 4001])
def test_a_spectrogram_without_masks_gives_the_recording_back(count):
    samples = np.random.default_rng(1).normal(0, 0.3, count).astype("f4")
    nothing = SpecAugment(time_masks=0, frequency_masks=0)
    found = masked(tf.constant(samples), nothing, 256, *seeds(1)).numpy()
    np.testing.assert_allclose(found, samples, atol=1e-5)


def in_bands(samples: np.ndarray) -> np.ndarray:
    """Energy in 40 bands of frequency."""
    return (np.abs(np.fft.rfft(samples))[:4000] ** 2).reshape(40, 100).sum(1)


def test_masks_of_time_and_of_frequency_silence_bands():
    noise = tf.constant(np.random.default_rng(1).normal(0, 0.3, 8000).astype("f4"))
    for number in range(5):
        options = SpecAugment(time_masks=1, time_part=0.5, frequency_masks=0)
        left = masked(noise, options, 256, *seeds(number)).numpy()
        quiet = np.abs(left) < 1e-4
        changed_at = np.flatnonzero(np.abs(left - noise) > 1e-4)
        assert quiet.mean() <= 0.5
        if len(changed_at):  # one band, and all outside of it as it was
            assert changed_at[-1] - changed_at[0] <= 0.5 * 8000 + 2 * 256
    options = SpecAugment(time_masks=0, frequency_masks=1, frequency_part=0.5)
    before = in_bands(noise.numpy())
    lost = []
    for number in range(20):
        gone = in_bands(masked(noise, options, 256, *seeds(number)).numpy()) < 0.05 * before
        places = np.flatnonzero(gone)
        assert not len(places) or places[-1] - places[0] + 1 == len(places), "one band"
        lost.append(gone.mean())
    assert 0.1 < np.mean(lost) < 0.35 and max(lost) <= 0.5


def augmented(options: dict, *, seed=1, epoch=0, name="a") -> np.ndarray:
    augment = AudioAugmenter(Augment(**options), seed, AUDIO)
    epoch = tf.constant(epoch, tf.int64)
    return augment(tf.constant(tone(440)), None, epoch, example_key(tf.constant(name))).numpy()


ALL = {"time_shift": 0.3, "noise": 0.5, "spec_augment": SpecAugment()}


def test_draws_depend_on_seed_epoch_and_name_and_on_nothing_else():
    assert not AudioAugmenter(Augment(), 1, AUDIO).changes
    np.testing.assert_array_equal(augmented({}), tone(440))
    for options in (ALL, *({name: value} for name, value in ALL.items())):
        assert AudioAugmenter(Augment(**options), 1, AUDIO).changes
        first = augmented(options)
        assert first.shape == (4000,) and first.dtype == np.float32
        np.testing.assert_array_equal(first, augmented(options))
        for other in ({"seed": 2}, {"epoch": 1}, {"name": "b"}):
            assert (augmented(options, **other) != first).any(), (options, other)


def test_noise_is_measured_against_the_recording():
    levels = []
    for number in range(40):
        added = augmented({"noise": 0.5}, name=str(number)) - tone(440)
        levels.append(np.sqrt(np.mean(added**2) / np.mean(tone(440) ** 2)))
    assert max(levels) < 0.52 and np.mean(levels) == pytest.approx(0.25, abs=0.08)


def test_frames_are_powers_of_two_below_32_ms():
    assert [frame_length(rate) for rate in (1000, 8000, 16_000, 44_100)] == [32, 256, 512, 1024]


@pytest.mark.parametrize(
    ("task", "data", "path"),
    [
        ("audio_classification", {}, "data.audio"),
        ("image_classification", {"audio": {"rate_hz": 8000, "seconds": 1}}, "data.audio"),
        ("text_classification", {"augment": {"noise": 0.1}}, "data.augment.noise"),
        ("image_classification", {"augment": {"spec_augment": {}}}, "data.augment.spec_augment"),
    ],
)
def test_what_means_nothing_to_the_examples_is_refused(task, data, path):
    with pytest.raises(SpecError) as caught:
        load_spec(changed(task=task, data={"train": "x"} | data))
    assert [problem.path for problem in caught.value.problems] == [path]


def test_a_spec_of_recordings_has_no_size_of_pictures():
    audio = {"rate_hz": 16_000, "seconds": 1.5}
    spec = load_spec(changed(task="audio_classification", data={"audio": audio})).spec
    assert spec.medium == "audio" and spec.data.image_size is None
    assert spec.data.audio is not None and spec.data.audio.samples == 24_000


def test_without_the_libraries_it_says_what_to_install(monkeypatch):
    check_installed()
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(EnvironmentNotAble, match=r"got no soxr.*pip install 'harness\[audio\]'"):
        check_installed()
