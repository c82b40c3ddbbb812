"""What is packed besides folders: manifests with all they say, texts, and records of others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import harness
from harness.cli.main import main
from harness.data.index import ExampleIndex
from harness.data.packed import GROUPS, open_packed
from harness.data.packed_examples import PackedExamples, packed_examples
from harness.data.packed_rows import parse_record
from harness.data.split import split_validation
from harness.spec import load_spec
from harness.worker.pack_source import PackSource
from tests.local.pack_sources_helpers import EACH, data, packed, spec_of
from tests.local.training_helpers import CLASSES, assert_equal_losses
from tests.unit.record_helpers import example, write_records

__all__ = ["data", "packed"]  # fixtures, found by their names


def manifest(data: Path, packed: Path, split: str) -> ExampleIndex:
    return PackSource(packed, None, load_spec(str(packed / "spec.yaml")).spec, split).index()


def names_of(examples: PackedExamples) -> list[str]:
    records, _ = examples.records(np.arange(len(examples)))
    return [parse_record(record).name.decode() for record in records]


def test_a_record_has_the_weight_and_group_of_its_row(data: Path, packed: Path) -> None:
    index, held = manifest(data, packed, "train"), packed_examples(packed / "train")
    row_of = {name: row for row, name in enumerate(index.names)}
    assert len(held) == len(index) == 3 * (EACH - 4) - 1
    seen = set()
    for record in held.records(np.arange(len(held)))[0]:
        parsed = parse_record(record)
        row = row_of[parsed.name.decode()]
        seen.add(row)
        assert parsed.weight == np.float32(index.weights[row])
        assert parsed.label == index.labels[row]
        feature = tf.train.Example.FromString(record).features.feature
        assert feature["image/group"].bytes_list.value == [index.groups[row].encode()]
    assert len(seen) == len(index)
    assert len(set(index.weights)) > 2, "the weights differ, so that it can be seen"
    # What the manifest lacked is known of the packed set, for the record of a run.
    assert held.missing == index.missing == {"label_dropped": 1, "weight_imputed": 1}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_split_keeps_patients_together_and_is_that_of_the_manifest(
    data: Path, packed: Path, fraction: float, seed: int
) -> None:
    index, held = manifest(data, packed, "train"), packed_examples(packed / "train")
    patient = dict(zip(index.names, index.groups, strict=True))
    wanted, found = split_validation(index, fraction, seed), held.split(fraction, seed)
    for one, other in zip(wanted, found, strict=True):
        assert sorted(names_of(other)) == list(one.names)
        assert other.counts() == one.counts()
        keys = {patient[name] for name in names_of(other)}
        assert len(other.group_keys()) == len(keys)
    sides = [{patient[name] for name in names_of(part)} for part in found]
    assert not sides[0] & sides[1]
    assert found[1].notes == wanted[1].notes


def test_a_run_from_it_is_that_from_the_manifest(
    data: Path, packed: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    runs = [tmp_path / "manifest", tmp_path / "packed"]
    changes = {"data.train": str(packed / "train"), "data.test": str(packed / "test")}
    for run, more in zip(runs, ({}, {**changes, "data.columns": {}}), strict=True):
        run.mkdir()
        spec = spec_of(run, tiny_backbone, data, **more)
        harness.run(spec, run_dir=run / "run", quiet=True)
    one, other = (json.loads((run / "run" / "run.json").read_text()) for run in runs)
    assert one["counts"] == other["counts"]
    assert one["counts"]["missing"]["train"] == {"label_dropped": 1, "weight_imputed": 1}
    assert_equal_losses(runs[0] / "run", runs[1] / "run", relative=1e-6)


def test_a_patient_on_two_sides_is_refused(
    data: Path, packed: Path, tiny_backbone: Path, tmp_path: Path, capsys
) -> None:
    # Both packed: known by their hashes alone.
    changes = {"data.train": str(packed / "train"), "data.columns": {}}
    spec = spec_of(tmp_path, tiny_backbone, data, **changes, **{"data.test": str(packed / "train")})
    assert main(["run", str(spec), "--run-dir", str(tmp_path / "run")]) == 4
    groups = len(set(manifest(data, packed, "train").groups))
    assert f"{groups} groups both in train and in test" in capsys.readouterr().err
    # Packed training rows and a manifest of test rows: named.
    rows = (data / "all.csv").read_text().splitlines()
    rows[-1] = rows[-1].replace(f"t{EACH - 1},", "p3,")
    (data / "mixed.csv").write_text("\n".join(rows))
    columns = {"path": "picture", "label": "colour", "group": "patient", "split": "use"}
    changes |= {"data.test": str(data / "mixed.csv"), "data.columns": columns}
    spec = spec_of(tmp_path, tiny_backbone, data, **changes)
    assert main(["run", str(spec), "--run-dir", str(tmp_path / "other")]) == 4
    said = capsys.readouterr().err
    assert "1 group both in train and in test" in said
    assert "'p3'" in said


def test_a_manifest_alone_has_the_columns_of_the_default(
    data: Path, tmp_path: Path, capsys
) -> None:
    rows = [f"{data}/pictures/{label}/000.png,{label}" for label in CLASSES]
    (tmp_path / "plain.csv").write_text("\n".join(["file,label", *rows]))
    assert main(["pack", str(tmp_path / "plain.csv"), str(tmp_path / "out")]) == 0
    assert open_packed(tmp_path / "out").classes == CLASSES
    assert GROUPS not in open_packed(tmp_path / "out").kinds
    assert "3 examples of 3 classes" in capsys.readouterr().out


def test_texts_of_a_manifest_are_packed(tmp_path: Path) -> None:
    texts = {"good": ["fine indeed", "well done"], "bad": ["no, never", "ü\u00e4 bad"]}
    rows = [f'"{text}",{label}' for label, some in texts.items() for text in some]
    (tmp_path / "texts.csv").write_text("\n".join(["said,mood", *rows]))
    (tmp_path / "spec.yaml").write_text(
        "harness_spec: 1\nname: texts\ntask: text_classification\n"
        "backbone: {handle: 'hub:none'}\n"
        "data: {train: texts.csv, columns: {text: said, label: mood}}\n"
    )
    assert main(["pack", str(tmp_path / "spec.yaml"), str(tmp_path / "out")]) == 0
    held = packed_examples(tmp_path / "out")
    assert held.packed.medium == "text"
    records, _ = held.records(np.arange(len(held)))
    features = [tf.train.Example.FromString(record).features.feature for record in records]
    found = {
        tuple(
            one[f"text/{name}"].bytes_list.value[0].decode() for name in ("class/text", "encoded")
        )
        for one in features
    }
    assert found == {(label, text) for label, some in texts.items() for text in some}


def test_records_of_others_are_packed(tmp_path: Path, data: Path, capsys) -> None:
    pictures = sorted((data / "pictures").glob("*/00*.png"))
    records = [
        example({"jpeg": path.read_bytes(), "class": CLASSES.index(path.parent.name)})
        for path in pictures
    ]
    write_records(tmp_path / "theirs" / "a.tfrecord", records)
    (tmp_path / "spec.yaml").write_text(
        "harness_spec: 1\nname: theirs\nbackbone: {handle: 'hub:none'}\n"
        "data: {train: theirs, features: {image: jpeg, label: class}}\n"
    )
    assert main(["pack", str(tmp_path / "spec.yaml"), str(tmp_path / "out")]) == 0
    held = packed_examples(tmp_path / "out")
    given, _ = held.records(np.arange(len(held)))
    found = sorted(bytes(parse_record(one).encoded) for one in given)
    assert found == sorted(path.read_bytes() for path in pictures)
    # A record that is damaged ends it with its name: it must not go missing in silence.
    file = tmp_path / "theirs" / "a.tfrecord"
    raw = bytearray(file.read_bytes())
    raw[-6] ^= 1
    file.write_bytes(raw)
    assert main(["pack", str(tmp_path / "spec.yaml"), str(tmp_path / "other")]) == 4
    assert f"#{len(records) - 1:08d} cannot be read" in capsys.readouterr().err
