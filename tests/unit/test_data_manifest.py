"""Manifests: what is read, what is left out and counted, and what is refused with its line."""

from __future__ import annotations

import csv
import io
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.manifest import manifest_index
from harness.data.manifest_columns import ManifestOptions
from harness.data.manifest_paths import manifest_paths
from harness.data.manifest_rows import is_manifest
from tests.unit.manifest_helpers import TWO, problems, write


def test_rows_become_examples_sorted_by_name(tmp_path):
    text = "label,extra,file\ndog,1,b/2.png\ncat,2,b/10.png\ndog,3,./a//1.png\n"
    index = manifest_index(write(tmp_path, text))
    assert index.names == ["a/1.png", "b/10.png", "b/2.png"]
    assert index.classes == ("cat", "dog")
    assert [index.classes[label] for label in index.labels] == ["dog", "cat", "dog"]
    assert list(index.sizes) == [1, 1, 1]
    assert index.mtimes[0] == (tmp_path / "a/1.png").stat().st_mtime_ns
    assert index.root == tmp_path.resolve()
    assert index.counts() == {"cat": 1, "dog": 2}
    assert index.notes == () and index.weights == index.weights[:0] and index.groups == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", TWO),
        ("m.csv", "\ufeff" + TWO),
        ("m.csv", TWO.replace("\n", "\r\n")),
        ("m.csv", TWO.rstrip("\n")),
        ("m.csv", TWO.replace("\n", "\n\n")),
        ("m.csv", 'file,label\n"a.png","x"\n"b.png","y"\n'),
        ("m.csv", " file , label\n a.png , x \nb.png,\ty\n"),
        ("M.TSV", TWO.replace(",", "\t")),
        ("m.tsv", '"file"\t"label"\r\n"a.png"\tx\r\nb.png\t"y"\r\n'),
    ],
)
def test_every_usual_form_of_a_table_reads_the_same(name, text, tmp_path):
    index = manifest_index(write(tmp_path, text, name, "a.png,b.png"))
    assert (index.names, index.classes) == (["a.png", "b.png"], ("x", "y"))
    assert index.digest == manifest_index(write(tmp_path, TWO, files="-")).digest


def test_quoted_cells_hold_delimiters_quotes_and_line_ends(tmp_path):
    text = 'file,label,note\na.png,"x, ""the"" first","two\nlines"\nb.png,y,\nc.png,y\n'
    found = problems(lambda: manifest_index(write(tmp_path, text, files="a.png,b.png,c.png")))
    assert [problem.line for problem in found] == [5]
    index = manifest_index(write(tmp_path, text[: text.index("c.png")]))
    assert index.classes == ('x, "the" first', "y")


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.png", "a.png"), ("./d/../a.png", "a.png"), ("{root}/d/a.png", "d/a.png")],
)
def test_paths_inside_the_root(path, name, tmp_path):
    write(tmp_path, "", files="a.png,b.png,d/a.png,d/b.png")
    text = f"file,label\n{path.format(root=tmp_path)},x\n{path.format(root=tmp_path)[:-5]}b.png,y\n"
    assert manifest_index(write(tmp_path, text, files="-")).names[0] == name


def test_paths_outside_the_root_and_a_root_behind_a_link(tmp_path):
    real, other = tmp_path / "deep" / "real", tmp_path / "other"
    for folder in (real, other):
        folder.mkdir(parents=True)
    for file in (real / "in.png", real.parent / "up.png", other / "out.png"):
        file.write_bytes(b"x")
    link = tmp_path / "link"
    link.symlink_to(real)
    text = f"file,label\n{link}/in.png,x\n../up.png,y\n{other}/out.png,y\n"
    index = manifest_index(write(tmp_path, text, files="-"), ManifestOptions(root=str(link)))
    assert index.names == ["../../other/out.png", "../up.png", "in.png"]
    # What the pipeline opens: the root, a slash, the name.
    assert all(Path(f"{index.root}/{name}").is_file() for name in index.names)


def test_relative_root_and_paths_given_from_it(tmp_path, monkeypatch):
    write(tmp_path, TWO)
    monkeypatch.chdir(tmp_path)
    assert manifest_index("m.csv").names == ["a.png", "b.png"]
    text = TWO.replace("a.png", f"{tmp_path}/a.png")
    write(tmp_path, text, files="-")
    assert manifest_index("m.csv", ManifestOptions(root=".")).names == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("text", "line", "what", "got"),
    [
        ("", None, "is empty", None),
        ("\n\n", None, "is empty", None),
        ("file,label\n", None, "holds no examples", "no rows"),
        ("path,label\na.png,x\n", 1, "there is no column 'file'", "'path', 'label'"),
        ("file,label,file\na.png,x,b\n", 1, "the column 'file' is there 2 times", None),
        ("file,label\na.png\nb.png,y\n", 2, "another number of cells", "1"),
        ("file,label\na.png,x\nb.png,y,z\n", 3, "another number of cells", "3"),
        ("file,label\na.png,x\nb.png,y\n./a.png,x\n", 4, "same file as line 2", "'a.png'"),
        ("file,label\na.png,x\ngone.png,y\n", 3, "does not exist", "'gone.png'"),
        ("file,label\na.png,x\n,y\n", 3, "names no file", "''"),
        ("file,label\na.png,x\nb.txt,y\n", 3, "is no picture", "'b.txt'"),
        ("file,label\na.png,x\nb.png,x\n", None, "one class only", "'x'"),
        ('file,label\na.png,x\nb.png,"y\n', 3, "cannot be read as a table", None),
        ('file,label\na.png,x\nb.png,"y"z\n', 3, "cannot be read as a table", None),
        ("file,label\na.png,x\rb.png,y\r", 2, "cannot be read as a table", None),
    ],
)
def test_what_is_refused(text, line, what, got, tmp_path):
    file = write(tmp_path, text, files="a.png,b.png")
    (problem, *_) = problems(lambda: manifest_index(file))
    assert what in problem.what and problem.line == line
    assert got is None or got in problem.got
    assert str(file) in str(problem) and (problem.allowed or problem.action)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (TWO.replace("y", "ü").encode("latin-1"), 3),
        (TWO.encode("utf-16"), 1),
    ],
    ids=["latin-1", "utf-16"],
)
def test_other_encodings_are_refused_at_their_line(raw, line, tmp_path):
    found = problems(lambda: manifest_index(write(tmp_path, raw, files="a.png,b.png")))
    assert (found[0].what, found[0].line) == ("is not UTF-8", line)
    assert "iconv" in found[0].action


def test_problems_come_together_in_the_order_of_lines(tmp_path):
    lines = ["gone1.png,x", "a.png,x", "a.png,y", "b.png", *(f"gone{n}.png,y" for n in range(2, 9))]
    found = problems(
        lambda: manifest_index(write(tmp_path, "file,label\n" + "\n".join(lines), files="a.png"))
    )
    assert [problem.line for problem in found] == [2, 4, 5, 6, 7, None]
    assert found[-1].what.startswith("and 5 more problems")


def test_a_file_that_is_no_file(tmp_path):
    (tmp_path / "b.png").mkdir()
    os.mkfifo(tmp_path / "c.png")
    text = "file,label\na.png,x\nb.png,y\nc.png,y\na.png/d.png,x\n"
    found = problems(lambda: manifest_index(write(tmp_path, text, files="a.png")))
    assert [problem.line for problem in found] == [3, 4, 5]
    assert "a folder" in found[0].what and "no ordinary file" in found[1].what
    assert "does not exist" in found[2].what and f"{tmp_path / 'a.png'} is there" in str(found[2])


def test_a_missing_manifest_and_one_that_is_a_folder(tmp_path):
    assert "does not exist" in problems(lambda: manifest_index(tmp_path / "m.csv"))[0].what
    (tmp_path / "d.csv").mkdir()
    assert "cannot be read" in problems(lambda: manifest_index(tmp_path / "d.csv"))[0].what
    assert is_manifest(tmp_path / "m.csv") and is_manifest("M.TSV")
    assert not is_manifest(tmp_path / "d.csv") and not is_manifest(tmp_path)


def test_sensitive_data_are_not_named(tmp_path):
    text = "file,label\na.png,x\ngone/secret.png,y\nsecret.txt,y\na.png,x\n"
    found = problems(lambda: manifest_index(write(tmp_path, text), ManifestOptions(sensitive=True)))
    assert [problem.line for problem in found] == [3, 4, 5]
    assert "secret" not in "".join(map(str, found))


def test_the_digest_covers_what_training_sees(tmp_path):
    options = ManifestOptions(group="g", weight="w")
    text = "file,label,g,w,other\na.png,x,1,1,0\nb.png,y,2,1,0\n"
    first = manifest_index(write(tmp_path, text), options)
    digests = {first.digest}
    assert first.digest.startswith("manifest:")
    for old, new in [("a.png,x", "a.png,z"), ("x,1,1", "x,1,2"), ("y,2,", "y,3,")]:
        digests.add(
            manifest_index(write(tmp_path, text.replace(old, new), files="-"), options).digest
        )
    assert len(digests) == 4
    # Not the order of rows, and not what no field names.
    head, one, two = text.replace(",0", ",7").splitlines()
    again = write(tmp_path, "\n".join([head, two, one]), files="-")
    assert manifest_index(again, options).digest == first.digest


def test_rows_take_few_bytes(tmp_path):
    many = 5_000
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = ["file,label,patient,w"]
    for number in range(many):
        (folder / f"image_{number:08}.png").touch()
        rows.append(f"pictures/image_{number:08}.png,c{number % 50},p{number // 10},{number % 7}")
    file = write(tmp_path, "\n".join(rows), files="-")
    tracemalloc.start()
    try:
        index = manifest_index(file, ManifestOptions(group="patient", weight="w"))
        now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == many
    # Of it about 90 are the name.
    assert most / many < 450 and now / many < 250


def test_a_subset_keeps_weights_and_groups(tmp_path):
    text = "file,label,g,w\na.png,x,1,1\nb.png,y,2,2\nc.png,x,3,3\n"
    index = manifest_index(write(tmp_path, text), ManifestOptions(group="g", weight="w"))
    part = index.subset([0, 2])
    assert (part.names, part.groups, list(part.weights)) == (["a.png", "c.png"], ["1", "3"], [1, 3])
    assert part.digest not in (index.digest, "") and part.digest.startswith("manifest:")
    assert part.subset([1]).rows.tolist() == [2]


def test_paths_alone_need_no_other_column(tmp_path):
    file = write(tmp_path, f"n,file\n1,b.png\n2,gone.png\n3,\n4,{tmp_path}/x/../a.png\n")
    options = ManifestOptions(missing_file="drop", group="nobody")
    root = tmp_path.resolve()
    assert manifest_paths(file, options) == [root / name for name in ("b.png", "gone.png", "a.png")]
    (found,) = problems(lambda: manifest_paths(file, ManifestOptions()))
    assert (found.line, found.what) == (4, "the row names no file")
    (found,) = problems(lambda: manifest_paths(file, ManifestOptions(path="files")))
    assert found.action == "set data.columns.path to file"
    for text in ("", "file\n"):
        assert problems(lambda text=text: manifest_paths(write(tmp_path, text), ManifestOptions()))


cell = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=12)


@settings(max_examples=60)
@given(
    st.lists(
        cell.map(str.strip).filter(lambda text: text and text != "NA"), min_size=2, max_size=12
    ),
    st.sampled_from([",", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_writer_writes_is_read(tmp_path_factory, labels, delimiter, end, quoting):
    folder = tmp_path_factory.mktemp("written")
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["label", "file"])
    names = [f"{number:03}.png" for number in range(len(labels))]
    writer.writerows(zip(labels, names, strict=True))
    ending = "csv" if delimiter == "," else "tsv"
    file = write(folder, out.getvalue(), f"m.{ending}", ",".join(names))
    if len(set(labels)) < 2:
        assert "one class" in problems(lambda: manifest_index(file))[0].what
        return
    index = manifest_index(file)
    assert index.names == names
    assert [index.classes[label] for label in index.labels] == labels
