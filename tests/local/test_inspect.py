"""``harness inspect`` as a user calls it: folders, specs, grids, broken and sensitive data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

# TensorFlow takes seconds to be imported, so one process answers all command lines.
SERVER = """
import contextlib, io, json, sys
from harness.cli.main import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["inspect", *json.loads(line)])
        except SystemExit as left:
            code = left.code
    tensorflow = "tensorflow" in sys.modules
    print(json.dumps([code, out.getvalue(), err.getvalue(), tensorflow]), flush=True)
"""
CLASSES = ["blue", "green", "red"]


class Said(NamedTuple):
    code: int
    out: str
    err: str
    tensorflow: bool


Inspect = Callable[..., Said]


@pytest.fixture(scope="module")
def inspect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspect]:
    """``inspect(*arguments, code=0)``: one command line after the other."""
    environment = dict(os.environ, HARNESS_CACHE=str(tmp_path_factory.mktemp("cache")))
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:

        def ask(*arguments: str | Path, code: int = 0) -> Said:
            assert server.stdin is not None
            assert server.stdout is not None
            print(json.dumps([str(each) for each in arguments]), file=server.stdin, flush=True)
            said = Said(*json.loads(server.stdout.readline()))
            assert said.code == code, said.err
            assert "Traceback" not in said.err
            return said

        yield ask
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_pictures: Callable[..., Path]) -> Path:
    """Three classes of 6, 5 and 5 pictures, two of which are broken, and a file that is none."""
    root = write_pictures(tmp_path_factory.mktemp("inspect") / "data", CLASSES, 5, 24)
    shutil.copy(root / "red" / "000.png", root / "blue" / "wide.png")
    (root / "green" / "001.png").write_bytes(b"")
    (root / "red" / "004.png").write_bytes((root / "red" / "003.png").read_bytes()[:40])
    (root / "red" / "notes.txt").touch()
    return root


@pytest.fixture
def spec(data: Path, tmp_path: Path) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(
        f"harness_spec: 1\nname: looked_at\nbackbone: {{handle: 'hub:nowhere'}}\n"
        f"data: {{train: {data}, image_size: 16, augment: {{flip: both, rotate_deg: 20}}}}\n"
    )
    return file


def test_counting_needs_no_tensorflow(inspect: Inspect, data: Path, spec: Path) -> None:
    # The first to ask: TensorFlow stays out as long as no picture is decoded.
    said = inspect(data, "--sample", "0")
    assert not said.tensorflow
    assert f"{data}: 16 examples of 3 classes" in said.out
    assert "the largest class has 1.2 times the smallest" in said.out
    assert "left out   1 .txt" in said.out
    assert "decoded" not in said.out
    assert not inspect(spec, "--sample", "0").tensorflow


def test_a_folder(inspect: Inspect, data: Path) -> None:
    said = inspect(data)
    lines = said.out.splitlines()
    assert "decoded    16 of 16" in lines
    assert "pixels     height 24, width 24" in lines
    assert "kinds      14 PNG" in lines
    assert lines[-3:] == [
        "broken     2",
        "  green/001.png: empty",
        "  red/004.png: truncated PNG",
    ]
    facts = json.loads(inspect(data, "--all", "--json").out)
    assert facts["counts"] == {"blue": 6, "green": 5, "red": 5}
    assert facts["pictures"]["broken"] == {
        "green/001.png": "empty",
        "red/004.png": "truncated PNG",
    }
    assert facts["pictures"]["widths"] == {"least": 24, "median": 24, "most": 24}


def test_a_sample_is_drawn_by_its_seed(inspect: Inspect, data: Path) -> None:
    def broken(seed: int) -> tuple[str, ...]:
        said = inspect(data, "--sample", "4", "--seed", str(seed), "--json")
        facts = json.loads(said.out)["pictures"]
        assert facts["looked_at"] == 4
        return tuple(facts["broken"])

    assert broken(7) == broken(7)
    assert len({broken(seed) for seed in range(12)}) > 1


def test_a_spec_stands_for_its_training_data(inspect: Inspect, spec: Path, data: Path) -> None:
    said = inspect(spec, "--all")
    assert f"{data}: 16 examples of 3 classes" in said.out
    assert "  red/004.png: truncated PNG" in said.out
    other = inspect(spec, "-o", f"data.train={data / 'nowhere'}", code=4)
    assert "does not exist" in other.err


def test_a_manifest(inspect: Inspect, spec: Path, data: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "rows.tsv"
    rows = [f"{path}\t{path.parent.name}" for path in sorted(data.glob("*/*.png"))]
    manifest.write_text("\n".join(["file\tlabel", *rows]))
    said = inspect(manifest)
    assert f"{manifest}: 16 examples of 3 classes" in said.out
    assert "data/red/004.png: truncated PNG" in said.out
    parts = [*(f"{row}\ttrain" for row in rows), "elsewhere.png\tblue\ttest"]
    manifest.write_text("\n".join(["picture\tlabel\tpart", *parts]))
    columns = "data.columns={path: picture, split: part}"
    said = inspect(spec, "-o", f"data.train={manifest}", "-o", columns, "--sample", "0")
    assert f"{manifest}: 16 examples of 3 classes" in said.out
    assert "data.columns.split says how a manifest" in inspect(spec, "-o", columns, code=4).err


def test_many_classes_are_cut_short(
    inspect: Inspect, tmp_path: Path, write_pictures: Callable[..., Path]
) -> None:
    names = [f"class{number:02d}" for number in range(35)]
    said = inspect(write_pictures(tmp_path / "many", names, 1, 8), "--sample", "0")
    assert "  ... 5 more ..." in said.out
    assert said.out.count("class") > 30


def test_all_broken_is_unusable(inspect: Inspect, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / name).mkdir()
        for number in range(10):
            (tmp_path / name / f"{number}.png").write_bytes(b"x")
    said = inspect(tmp_path, code=4)
    assert "broken     30" in said.out
    assert "  and 10 more, see --json" in said.out


def test_sensitive_data_are_counted_and_not_named(inspect: Inspect, spec: Path, data: Path) -> None:
    hidden = ("-o", "data.sensitive=true")
    said = inspect(spec, "--all", *hidden)
    assert "looked_at: 16 examples of 3 classes" in said.out
    assert "broken     2\n  1 empty\n  1 truncated PNG\n" in said.out
    for text in (said.out, said.err, inspect(spec, "--all", *hidden, "--json").out):
        assert str(data) not in text
        assert ".png" not in text
    assert "red/004.png" in inspect(spec, "--all", *hidden, "--show-sensitive").out


def test_a_grid_of_augmented_pictures(inspect: Inspect, spec: Path, tmp_path: Path) -> None:
    file = tmp_path / "grid.png"
    said = inspect(spec, "--augment", file, "--sample", "3", "--copies", "4")
    assert f"{file}: as prepared, then as in the epochs 0 to 3, of" in said.out
    grid = np.asarray(Image.open(file))
    assert grid.shape == (3 * 20 + 4, 5 * 20 + 4, 3)
    assert file.stat().st_mode & 0o777 == 0o600
    # The same again is the same picture, another training seed draws others.
    first = file.read_bytes()
    inspect(spec, "--augment", file, "--sample", "3", "--copies", "4")
    assert file.read_bytes() == first
    facts = json.loads(
        inspect(
            spec, "--augment", file, "--sample", "3", "--copies", "4", "--json",
            "-o", "training.seed=9", "-o", "data.augment.brightness=0.5",
        ).out
    )  # fmt: skip
    assert file.read_bytes() != first
    assert len(facts["names"]) == 3
    assert facts["epochs"] == 4


def test_a_grid_of_sensitive_pictures_is_asked_for(
    inspect: Inspect, spec: Path, tmp_path: Path
) -> None:
    file = tmp_path / "grid.png"
    sensitive = ("--augment", file, "-o", "data.sensitive=true")
    assert "add --show-sensitive" in inspect(spec, *sensitive, code=2).err
    assert not file.exists()
    inspect(spec, *sensitive, "--show-sensitive")
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 4, "does not exist"),
        (["nowhere.yaml"], 2, "nowhere.yaml"),
        (["MODEL"], 4, "the backbone cannot be loaded"),
        (["DATA", "--augment", "g.png"], 2, "--augment belongs to a spec"),
        (["DATA", "-o", "a=1", "--show-sensitive"], 2, "-o and --show-sensitive belong to a spec"),
        (["DATA", "--copies", "2"], 2, "--copies is of a grid"),
        (["DATA", "--sample", "-1"], 2, "a whole number, 0 or more"),
        (["DATA", "--sample", "1", "--all"], 2, "not allowed with argument"),
        (["SPEC", "--augment", "g.jpg"], 2, "a name ending in .png"),
        (["SPEC", "--augment", "g.png", "--all"], 2, "a grid shows a few pictures"),
        (["SPEC", "--augment", "g.png", "--copies", "0"], 2, "a grid shows a few pictures"),
        (["SPEC", "--augment", "g.png", "--sample", "900000"], 2, "million pixels"),
        (["SPEC", "--augment", "g.png", "-o", "data.augment={}"], 2, "changes no picture"),
        (["SPEC", "--augment", "g.png", "-o", "data.augment.zoom=2"], 2, "data.augment.zoom"),
        (["SPEC", "--augment", "nowhere/g.png"], 5, "nowhere/g.png"),
    ],
)
def test_bad_input(
    arguments: list[str], code: int, words: str, inspect: Inspect, spec: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").touch()
    data = tmp_path / "data"
    data.mkdir()
    places = {"DATA": data, "SPEC": spec, "MODEL": model}
    placed = (places.get(word, word) for word in arguments)
    at = (tmp_path / word if str(word).endswith("g.png") else word for word in placed)
    assert words in inspect(*at, code=code).err
    assert not list(tmp_path.rglob("*.jpg"))


PLUGINS = """
import tensorflow as tf
from harness.plugins import register

class Bright:
    names = ["one", "two", "hidden name"]
    labels = [0, 1, 1]
    classes = ["a", "b"]
    digest = "1"
    def load(self, name):
        with tf.control_dependencies([tf.debugging.assert_none_equal(name, "hidden name")]):
            return tf.fill([6, 8, 3], tf.cast(200, tf.uint8))

@register("source", "bright")
def bright(path, options):
    return Bright()

@register("augmentation", "darker")
def darker(image, seed):
    return image * 0.5
"""


def test_plugins_give_and_change_pictures(inspect: Inspect, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PLUGINS)
    spec, file = tmp_path / "job.yaml", tmp_path / "grid.png"
    spec.write_text(
        "harness_spec: 1\nname: parts\nplugins: [parts.py]\nbackbone: {handle: 'hub:nowhere'}\n"
        "data: {source: 'plugin:bright', image_size: 16, augment: {plugins: ['plugin:darker']}}\n"
    )
    said = inspect(spec)
    assert "plugin:bright: 3 examples of 2 classes" in said.out
    assert "pixels     height 6, width 8" in said.out
    assert "kinds" not in said.out
    assert "files" not in said.out
    assert "  hidden name: " in said.out
    assert "hidden name" not in inspect(spec, "-o", "data.sensitive=true").out
    inspect(spec, "--augment", file, "--copies", "1")
    levels = set(np.unique(np.asarray(Image.open(file))).tolist())
    assert levels == {100, 200, 255}
