"""Examples without labels: folders of any form, manifests by their column of examples alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.index import ExampleIndex
from harness.data.manifest_columns import ManifestOptions
from harness.data.media import TEXT
from harness.data.unlabelled import unlabelled_index
from harness.errors import DataError


def pictures(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * len(name))
    return folder


def index_of(path: Path, options: ManifestOptions | None = None) -> ExampleIndex:
    found = unlabelled_index(str(path), options or ManifestOptions())
    assert isinstance(found, ExampleIndex)
    return found


def test_a_folder_is_taken_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "t", "b.png", "a/c.jpg", "a/d/e.PNG", ".hidden.png", "read.me")
    found = index_of(folder)
    assert list(found.names) == ["a/c.jpg", "a/d/e.PNG", "b.png"]
    assert list(found.sizes) == [7, 9, 5]
    assert (list(found.labels), found.classes) == ([0, 0, 0], ("unlabelled",))
    assert found.notes == (f"{folder}: 1 files that are no images were left out",)
    (folder / "b.png").write_bytes(b"other")
    assert index_of(folder).digest != found.digest


def test_one_class_folder_is_no_matter(tmp_path: Path) -> None:
    assert len(index_of(pictures(tmp_path / "t", "only/a.png", "only/b.png"))) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [("not_there", "does not exist"), ("empty", "holds no images"), ("t/b.png", "is not a folder")],
)
def test_what_is_no_folder_of_pictures_is_refused(tmp_path: Path, name: str, said: str) -> None:
    pictures(tmp_path / "t", "b.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        index_of(tmp_path / name)


def test_a_manifest_needs_no_label(tmp_path: Path) -> None:
    pictures(tmp_path, "p/b.png", "p/a.png")
    (tmp_path / "t.csv").write_text("file,size\np/b.png,1\np/a.png,2\np/b.png,3\n")
    found = index_of(tmp_path / "t.csv")
    assert list(found.names) == ["p/a.png", "p/b.png"]
    (tmp_path / "t.csv").write_text("picture\np/b.png\n")
    with pytest.raises(DataError, match="there is no column 'file'"):
        index_of(tmp_path / "t.csv")


def test_files_that_are_not_there_are_named_or_dropped(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text("file\na.png\nlost.png\n")
    with pytest.raises(DataError, match=r"1 files that .* are not there.*'lost.png'"):
        index_of(tmp_path / "t.csv")
    with pytest.raises(DataError, match="not shown"):
        index_of(tmp_path / "t.csv", ManifestOptions(sensitive=True))
    found = index_of(tmp_path / "t.csv", ManifestOptions(missing_file="drop"))
    assert (list(found.names), found.missing) == (["a.png"], {"file_dropped": 1})
    (tmp_path / "t.csv").write_text("file\nlost.png\n")
    with pytest.raises(DataError, match="none is there"):
        index_of(tmp_path / "t.csv", ManifestOptions(missing_file="drop"))


def test_texts_stand_in_the_manifest_and_count_as_often_as_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,rating\nfine,3\nbad,1\nfine,2\n")
    found = index_of(tmp_path / "t.csv", ManifestOptions(text="text", medium=TEXT))
    assert sorted(found.texts) == [b"bad", b"fine", b"fine"]
    assert list(found.names) == sorted(set(found.names))


def test_a_directory_of_tensorflow_datasets_is_refused(tmp_path: Path) -> None:
    for name in ("dataset_info.json", "features.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match="pack it first"):
        index_of(tmp_path)
