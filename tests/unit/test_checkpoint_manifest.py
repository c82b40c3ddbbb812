"""The manifest and the host state: what comes back, and that damage is seen.  No TensorFlow."""

from __future__ import annotations

import json
import math
import string
import subprocess
import sys

import pytest
from checkpoint_helpers import flip_bit, names, new_store
from hypothesis import given
from hypothesis import strategies as st

from harness.checkpoint.hoststate import decode_state, encode_state
from harness.checkpoint.manifest import (
    DamagedCheckpoint,
    Manifest,
    TensorInfo,
    checkpoint_paths,
    list_checkpoints,
    parse_manifest,
    read_manifest,
    read_state,
    render_manifest,
    verify_checkpoint,
)

SMALL = Manifest(
    step=1200,
    time="2026-11-22T01:33:55.120Z",
    files={"state.json": (3, "ab" * 32), "tensors.index": (0, "cd" * 32)},
    tensors={"head/kernel": TensorInfo((3, 4), "float32"), "ü": TensorInfo((), "bfloat16")},
    metrics={"loss": 0.25, "val_loss": math.inf},
)

text = st.text(st.characters(exclude_categories=()), max_size=8)
manifests = st.builds(
    Manifest,
    step=st.integers(0, 10**12),
    time=st.text(string.printable, max_size=10),
    files=st.dictionaries(text, st.tuples(st.integers(0, 2**40), st.text("0123456789abcdef"))),
    tensors=st.dictionaries(
        text, st.builds(TensorInfo, st.lists(st.integers(0, 9)).map(tuple), text)
    ),
    metrics=st.dictionaries(text, st.floats(allow_nan=False)),
)
state_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=12,
)


@given(manifests)
def test_a_manifest_comes_back(manifest):
    assert parse_manifest(render_manifest(manifest)) == manifest


def test_a_metric_that_is_nan_comes_back_and_the_file_is_strict_json():
    data = render_manifest(Manifest(1, "", {}, {}, {"loss": math.nan}))
    json.loads(data, parse_constant=pytest.fail)
    assert math.isnan(parse_manifest(data).metrics["loss"])


def test_every_single_flipped_bit_of_a_manifest_is_seen():
    data = render_manifest(SMALL)
    assert parse_manifest(data) == SMALL
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ValueError):
            parse_manifest(bytes(damaged))


def test_every_truncation_of_a_manifest_is_seen():
    data = render_manifest(SMALL)
    for length in range(len(data)):
        with pytest.raises(ValueError):
            parse_manifest(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"null",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": 1, "step": 1, "time": "", "files": [], "tensors": {}, "metrics": {}}',
        b'{"format": 1, "step": 1, "time": "", "files": {"a": 1}, "tensors": {}, "metrics": {}}',
    ],
)
def test_garbage_for_a_manifest_is_a_value_error(data):
    with pytest.raises(ValueError):
        parse_manifest(data)


def test_another_format_version_is_named():
    body = json.loads(render_manifest(SMALL))
    body["format"] = 2
    del body["sha256"]
    from harness.checkpoint import manifest as module

    body["sha256"] = module._body_digest(body)
    with pytest.raises(ValueError, match="another version of harness"):
        parse_manifest(json.dumps(body).encode())


@given(st.dictionaries(text.filter(lambda key: key != "__float__"), state_values, max_size=4))
def test_host_state_comes_back_exactly(state):
    try:
        data = encode_state(state)
    except ValueError:
        assert "__float__" in repr(state)
        return
    back = decode_state(data)
    assert back == state
    # Equality alone takes True, 1 and 1.0 for the same.
    assert json.dumps(back, sort_keys=True) == json.dumps(state, sort_keys=True)


def test_host_state_keeps_types_and_floats_that_are_not_finite():
    state = {"b": True, "i": 2**80, "f": 1.0, "n": math.nan, "m": [-math.inf, None], "z": -0.0}
    back = decode_state(encode_state(state))
    assert [type(back[key]) for key in "bifn"] == [bool, int, float, float]
    assert math.isnan(back["n"]) and back["m"] == [-math.inf, None]
    assert math.copysign(1, back["z"]) == -1


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"a": {"b": (1, 2)}}, r"state\.a\.b.*tuple"),
        ({"a": [0, {1: 2}]}, r"state\.a\[1\].*keys must be str"),
        ({"a": b"x"}, "bytes"),
        ({"a": {1}}, "set"),
        ([], "must be a dict"),
    ],
)
def test_host_state_that_would_not_come_back_is_refused(state, says):
    with pytest.raises(TypeError, match=says):
        encode_state(state)


def test_numpy_scalars_are_refused_in_host_state():
    numpy = pytest.importorskip("numpy")
    with pytest.raises(TypeError, match="float64"):
        encode_state({"best": numpy.float64(1)})


def test_the_reserved_key_is_refused():
    with pytest.raises(ValueError, match="reserved"):
        encode_state({"a": {"__float__": "nan"}})


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'"x"', b"\xff"])
def test_garbage_for_host_state_is_a_value_error(data):
    with pytest.raises(ValueError):
        decode_state(data)


@pytest.fixture
def saved(tmp_path):
    """A checkpoint without tensors."""
    return new_store(tmp_path / "checkpoints")[0].save(7, {}, {"epoch": 1}, metrics={"loss": 2})


def test_a_whole_checkpoint_verifies(saved):
    assert names(saved) == ["manifest.json", "state.json"]
    manifest = verify_checkpoint(saved)
    assert (manifest.step, manifest.metrics, manifest.tensors) == (7, {"loss": 2.0}, {})
    assert manifest.bytes == (saved / "state.json").stat().st_size
    assert read_state(saved) == {"epoch": 1}


def test_every_flipped_bit_of_a_file_is_seen(saved):
    for bit in range(8 * (saved / "state.json").stat().st_size):
        flip_bit(saved / "state.json", bit)
        with pytest.raises(DamagedCheckpoint, match=r"state\.json differs"):
            verify_checkpoint(saved)
        flip_bit(saved / "state.json", bit)
    verify_checkpoint(saved)


@pytest.mark.parametrize("name", ["manifest.json", "state.json"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(DamagedCheckpoint, match=name):
        verify_checkpoint(saved)


def test_a_checkpoint_under_another_step_is_refused(saved):
    other = saved.rename(saved.parent / "step-00000008")
    with pytest.raises(DamagedCheckpoint, match="of step 7"):
        read_manifest(other)


def test_a_manifest_that_points_outside_is_refused(saved):
    manifest = read_manifest(saved)
    files = {"../x": manifest.files["state.json"]}
    outside = Manifest(7, manifest.time, files, {}, {})
    (saved / "manifest.json").write_bytes(render_manifest(outside))
    with pytest.raises(DamagedCheckpoint, match="outside"):
        verify_checkpoint(saved)


def test_the_list_tells_damaged_ones_and_ignores_strangers(saved):
    folder = saved.parent
    for name in ("step-12", "notes", ".tmp-h-1-ab", ".trash-step-00000001-ab"):
        (folder / name).mkdir()
    broken = folder / "step-00000009"
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    found = list_checkpoints(folder)
    assert [(info.step, info.path, info.manifest is None) for info in found] == [
        (7, saved, False),
        (9, broken, True),
    ]
    assert found[0].problem is None and "cannot be read" in found[1].problem


def test_no_folder_is_no_checkpoint(tmp_path):
    assert checkpoint_paths(tmp_path / "none") == []


def test_a_large_step_sorts_by_number(tmp_path):
    for step in (99_999_999, 100_000_000, 5):
        (tmp_path / f"step-{step:08d}").mkdir()
    assert [step for step, _ in checkpoint_paths(tmp_path)] == [5, 99_999_999, 100_000_000]


def test_importing_and_verifying_needs_no_tensorflow_and_no_numpy(saved):
    code = (
        "import sys, pathlib, harness.checkpoint as c, harness.observe\n"
        f"p = pathlib.Path({str(saved)!r})\n"
        "c.verify_checkpoint(p), c.read_state(p), c.list_checkpoints(p.parent)\n"
        "bad = {'tensorflow', 'numpy', 'rich', 'tensorboard'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
