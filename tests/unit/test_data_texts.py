"""Texts as examples: where they are read from, what is left out, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.data.index import folder_index
from harness.data.manifest import manifest_index, manifest_sets
from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_paths import manifest_texts
from harness.data.media import IMAGE, TEXT
from harness.data.sets import open_index, open_sets
from harness.data.split import split_validation
from harness.errors import DataError, SpecError
from harness.spec import load_spec
from tests.unit.spec_helpers import changed

TEXTS = ManifestOptions(path=None, text="text", medium=TEXT)


def write(folder: Path, *rows: str, name: str = "m.csv") -> Path:
    file = folder / name
    file.write_text("\n".join(rows) + "\n")
    return file


def texts_by_label(index) -> list[tuple[str, str]]:
    pairs = zip(index.texts, index.labels, strict=True)
    return sorted((text.decode(), index.classes[label]) for text, label in pairs)


def test_texts_stand_in_the_manifest_itself(tmp_path):
    file = write(
        tmp_path,
        "label,text",
        'good,"well, well\nand a second line"',
        "bad,  no  ",
        'good,"ça va ""bien"""',
    )
    index = manifest_index(file, TEXTS)
    assert texts_by_label(index) == [
        ("no", "bad"),
        ("well, well\nand a second line", "good"),
        ('ça va "bien"', "good"),
    ]
    assert list(index.sizes) == [len(text) for text in index.texts]
    assert list(index.names) == sorted(index.names)
    assert all(len(name) == 16 for name in index.names)
    assert index.digest.startswith("manifest:") and not index.notes


def test_a_text_keeps_its_name_wherever_it_stands(tmp_path):
    rows = [f"{'ab'[n % 2]},text number {n}" for n in range(20)]
    one = manifest_index(write(tmp_path, "label,text", *rows), TEXTS)
    other = manifest_index(
        write(tmp_path, "text,label", *(",".join(row.split(",")[::-1]) for row in rows[::-1])),
        TEXTS,
    )
    assert (one.names, one.texts, one.digest) == (other.names, other.texts, other.digest)
    more = manifest_index(write(tmp_path, "label,text", "a,first of all", *rows), TEXTS)
    assert set(one.names) < set(more.names)
    held = [set(split_validation(index, 0.3, 1)[1].names) for index in (one, more)]
    assert held[0] and held[0] == held[1] & set(one.names)


def test_equal_texts_are_examples_of_their_own_and_are_warned_of(tmp_path):
    file = write(tmp_path, "label,text", "a,same", "b,same", "a,same", "b,other")
    index = manifest_index(file, TEXTS)
    assert len(set(index.names)) == 4
    (note,) = index.notes
    assert "2 rows repeat a text that stands further up" in note
    assert "data.columns.group" in note


def test_a_changed_text_or_label_is_other_data(tmp_path):
    rows = ["label,text", "a,one", "b,two"]
    digest = manifest_index(write(tmp_path, *rows), TEXTS).digest
    for other in (["label,text", "a,one", "b,2"], ["label,text", "b,one", "a,two"]):
        assert manifest_index(write(tmp_path, *other), TEXTS).digest != digest
    part = manifest_index(write(tmp_path, *rows, "b,three"), TEXTS).subset([0, 2])
    assert len(part.texts) == 2 and part.digest != digest


def test_rows_without_text_are_an_error_or_left_out(tmp_path):
    file = write(tmp_path, "label,text", "a,one", "b,", "b,NA", "b,two")
    with pytest.raises(DataError) as caught:
        manifest_index(file, TEXTS)
    first, second = caught.value.problems
    assert (first.line, second.line) == (3, 4)
    assert first.what == "the row has no text" and "data.missing.file" in str(first.action)
    index = manifest_index(
        file, ManifestOptions(path=None, text="text", medium=TEXT, missing_file="drop")
    )
    assert len(index) == 2 and index.missing == {"text_dropped": 2}


def test_splits_groups_and_weights_go_with_texts(tmp_path):
    options = ManifestOptions(
        path=None, text="text", medium=TEXT, group="by", weight="w", split="use"
    )
    file = write(
        tmp_path,
        "label,text,by,w,use",
        *(
            f"{'ab'[n % 2]},text {n},author {n // 2},{n},{'train' if n < 6 else 'test'}"
            for n in range(8)
        ),
    )
    sets = manifest_sets(file, options).sets
    assert (len(sets["train"]), len(sets["test"])) == (6, 2)
    held = dict(zip((t.decode() for t in sets["train"].texts), sets["train"].weights, strict=True))
    assert held == {f"text {n}": float(n) for n in range(6)}
    assert sets["test"].groups == ["author 3", "author 3"]


def test_a_manifest_that_is_not_utf8_is_refused_with_the_line(tmp_path):
    file = tmp_path / "m.csv"
    file.write_bytes(b"label,text\na,fine\nb,caf\xe9\n")
    with pytest.raises(DataError) as caught:
        manifest_index(file, TEXTS)
    assert caught.value.problems[0].line == 3


def test_texts_without_labels_for_predict(tmp_path):
    file = write(tmp_path, "id,text", "1,one", '2,"two\nlines"', "3,three")
    assert manifest_texts(file, TEXTS) == [(2, "one"), (3, "two\nlines"), (5, "three")]
    with pytest.raises(DataError, match="holds no text"):
        manifest_texts(write(tmp_path, "text"), TEXTS)
    with pytest.raises(DataError, match="no column 'text'"):
        manifest_texts(write(tmp_path, "words", "a"), TEXTS)


def test_a_folder_of_text_files(tmp_path):
    for name in ("a/1.txt", "a/deep/2.TXT", "b/1.txt", "b/notes.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("words")
    index = folder_index(tmp_path, medium=TEXT)
    assert list(index.names) == ["a/1.txt", "a/deep/2.TXT", "b/1.txt"]
    assert index.notes == (f"{tmp_path}: files that are no texts were left out: 1 .pdf",)
    with pytest.raises(DataError, match=r"holds no images, got 1 .pdf, 3 .txt"):
        folder_index(tmp_path)


def test_a_manifest_may_name_text_files(tmp_path):
    (tmp_path / "one.txt").write_text("1")
    file = write(tmp_path, "file,label", "one.txt,a", "two.png,b")
    with pytest.raises(DataError, match=r"the file is no text, got 'two\.png'"):
        manifest_index(file, ManifestOptions(medium=TEXT))


@pytest.mark.parametrize(
    ("medium", "asked", "words"),
    [
        (IMAGE, "text", "is a packed set of images, got a task of texts"),
        (TEXT, "image", "is a packed set of texts, got a task of images"),
    ],
)
def test_a_packed_set_says_what_it_holds(tmp_path, medium, asked, words):
    name = f"1.{medium.extensions[0]}"
    for label in "ab":
        (tmp_path / "files" / label).mkdir(parents=True)
        (tmp_path / "files" / label / name).write_text(f"words of {label}")
    command = ["pack", str(tmp_path / "files"), str(tmp_path / "packed")]
    assert main([*command, *(["--medium", "text"] if medium is TEXT else [])]) == 0
    found = open_index(tmp_path / "packed", medium=medium.name)
    assert found.packed.medium == medium.name and len(found) == 2
    with pytest.raises(DataError, match=words):
        open_index(tmp_path / "packed", medium=asked)


def test_texts_are_not_shrunk(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    command = ["pack", str(tmp_path), str(tmp_path / "b"), "--medium", "text", "--resize", "32"]
    assert main(command) == 2
    assert "--resize shrinks pictures" in capsys.readouterr().err


def text_spec(**fields):
    return changed(task="text_classification", **fields)


def test_a_spec_of_texts_has_no_size_of_pictures_and_no_column_of_paths(tmp_path):
    data = {"train": str(write(tmp_path, "label,text", "a,1", "a,2", "b,3", "b,4"))}
    spec = load_spec(text_spec(data=data | {"columns": {"text": "text"}})).spec
    assert spec.medium == "text"
    assert spec.data.image_size is None and spec.data.columns.path is None
    sets = open_sets(spec.data, 1, medium=spec.medium)
    assert len(sets.train) + len(sets.validation) == 4
    assert load_spec(text_spec(data=data)).spec.data.columns.path == "file"


@pytest.mark.parametrize(
    ("task", "data", "path"),
    [
        ("text_classification", {"image_size": 96}, "data.image_size"),
        ("text_classification", {"augment": {"flip": "both"}}, "data.augment.flip"),
        (
            "text_classification",
            {"augment": {"randaugment": {"ops": 1}}},
            "data.augment.randaugment",
        ),
        ("text_classification", {"columns": {"text": "t", "path": "p"}}, "data.columns.path"),
        ("text_classification", {"columns": {"path": None}}, "data.columns.path"),
        ("text_classification", {"columns": {"text": "t"}, "root": "."}, "data.root"),
        ("image_classification", {"augment": {"word_drop": 0.1}}, "data.augment.word_drop"),
        ("image_classification", {"image_size": None}, "data.image_size"),
        ("image_classification", {"columns": {"text": "t", "path": None}}, "data.columns.text"),
    ],
)
def test_what_means_nothing_to_the_examples_is_refused(task, data, path):
    with pytest.raises(SpecError) as caught:
        load_spec(changed(task=task, data={"train": "x"} | data))
    first, *rest = caught.value.problems
    assert first.path == path
    # Without the wrong value a column may be lacking; nothing else comes of it.
    assert all(problem.path == "data.columns.path" for problem in rest)


def test_a_column_of_texts_without_a_manifest_is_refused(tmp_path):
    spec = load_spec(text_spec(data={"train": str(tmp_path), "columns": {"text": "t"}})).spec
    with pytest.raises(DataError, match=r"data\.columns\.text says how a manifest is read"):
        open_sets(spec.data, 1, medium="text")


@given(st.binary(max_size=20))
def test_the_graph_takes_the_texts_that_python_takes(raw):
    import tensorflow as tf

    from harness.data.text import decode_text, text_fault

    try:
        wanted = raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        wanted = ""
    # TensorFlow strips what C calls space, no Unicode ones.
    wanted = wanted.strip(" \t\n\r\v\f")
    if wanted:
        assert decode_text(tf.constant(raw)).numpy().decode() == wanted
        return
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_text(tf.constant(raw))
    assert text_fault(raw).startswith(("empty", "not UTF-8"))
