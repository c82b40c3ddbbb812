"""Folders per class: what is indexed, what is refused, and the digests."""

from __future__ import annotations

import os
import time

import pytest

from harness.data.balance import class_weights
from harness.data.index import content_digest, folder_index
from harness.errors import DataError


def make(root, files):
    """Files as {relative path: content}; a str is a symbolic link's target."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    return root


def test_names_are_sorted_and_labels_follow(tmp_path):
    make(
        tmp_path,
        {
            "b/2.jpg": b"x",
            "b/10.PNG": b"xyz",
            # '-' sorts before '/': the order of names is not the order of class folders.
            "b-c/1.gif": b"",
            "a/deep/er/1.Jpeg": b"xx",
            "a/1.bmp": b"x",
        },
    )
    index = folder_index(tmp_path)
    names = ["a/1.bmp", "a/deep/er/1.Jpeg", "b-c/1.gif", "b/10.PNG", "b/2.jpg"]
    assert index.names == names == sorted(names, key=str.encode)
    assert index.classes == ("a", "b", "b-c")
    assert list(index.labels) == [0, 0, 2, 1, 1]
    assert list(index.sizes) == [1, 2, 0, 3, 1]
    assert index.counts() == {"a": 2, "b": 2, "b-c": 1}
    assert len(index) == 5 and index.notes == () and index.ignored == {}


def test_hidden_and_other_files(tmp_path):
    make(
        tmp_path,
        {
            "a/1.jpg": b"x",
            "b/1.jpg": b"x",
            "a/.hidden.jpg": b"x",
            "a/.thumbs/1.jpg": b"x",
            ".cache/1.jpg": b"x",
            "a/notes.txt": b"x",
            "a/more.TXT": b"x",
            "b/README": b"x",
            "top.jpg": b"x",
        },
    )
    index = folder_index(tmp_path)
    assert index.names == ["a/1.jpg", "b/1.jpg"]
    assert index.ignored == {"txt": 2, "": 1}
    assert "2 .txt" in index.notes[0] and "1 without extension" in index.notes[0]


def test_links_are_followed_loops_are_not_and_broken_ones_are_said(tmp_path):
    root = make(
        tmp_path / "data",
        {
            "a/1.jpg": b"x",
            "b/1.jpg": "../../elsewhere/1.jpg",
            "b/loop": "../b",
            "b/gone.jpg": "nowhere.jpg",
            "c": "../elsewhere",
        },
    )
    make(tmp_path, {"elsewhere/1.jpg": b"12345"})
    index = folder_index(root)
    assert index.names == ["a/1.jpg", "b/1.jpg", "c/1.jpg"]
    assert list(index.sizes) == [1, 5, 5]
    assert "broken" in index.notes[0] and "b/gone.jpg" in index.notes[0]


@pytest.mark.parametrize(
    "name", ["a b.jpg", 'it\'s "q".jpg', "line\nbreak.jpg", "日本 é.png", "%s $HOME *.jpg"]
)
def test_odd_names_are_names(tmp_path, name):
    index = folder_index(make(tmp_path, {f"a/{name}": b"x", "b/1.jpg": b"x"}))
    assert index.names[0] == f"a/{name}"


@pytest.mark.parametrize("where", ["a", "class"])
def test_names_that_are_no_utf8_are_refused_by_name(tmp_path, where):
    make(tmp_path, {"a/1.jpg": b"x", "b/1.jpg": b"x"})
    bad = os.fsdecode(b"caf\xe9")
    make(tmp_path, {f"{bad}/1.jpg" if where == "class" else f"a/{bad}.jpg": b"x"})
    with pytest.raises(DataError, match=r"caf\\udce9") as raised:
        folder_index(tmp_path)
    str(raised.value).encode()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (None, "does not exist"),
        ({}, "has no class folders"),
        ({"1.jpg": b"x"}, "has no class folders"),
        ({"a/1.jpg": b"x"}, "one class folder only"),
        ({"a/1.jpg": b"x", "b/.keep": b""}, "/b holds no images"),
        ({"a/1.txt": b"x", "b/1.txt": b"x"}, "bmp, gif, jpeg, jpg, png, webp"),
    ],
)
def test_unusable_folders(tmp_path, files, says):
    root = tmp_path / "data"
    if files is not None:
        root.mkdir()
        make(root, files)
    with pytest.raises(DataError) as raised:
        folder_index(root)
    assert says in str(raised.value)
    assert raised.value.exit_code == 4


def test_a_file_is_no_folder(tmp_path):
    make(tmp_path, {"data": b"x"})
    with pytest.raises(DataError, match="is not a folder"):
        folder_index(tmp_path / "data")


def test_all_empty_classes_are_named_at_once(tmp_path):
    files = {"a/1.jpg": b"x"} | {f"empty{i}/.keep": b"" for i in range(3)}
    with pytest.raises(DataError) as raised:
        folder_index(make(tmp_path, files))
    assert len(raised.value.problems) == 3
    many = {f"empty{i:02}/.keep": b"" for i in range(20)}
    with pytest.raises(DataError, match="and 18 more"):
        folder_index(make(tmp_path, many))


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    make(tmp_path, {"a/1.jpg": b"x", "b/1.jpg": b"x", "b/sub/1.jpg": b"x"})
    real = os.scandir

    def scandir(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    # Not by chmod: root, who runs tests in containers, may read everything.
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="b/sub cannot be read, got Permission denied"):
        folder_index(tmp_path)


def test_other_splits_keep_the_classes_of_training(tmp_path):
    make(tmp_path, {"c/1.jpg": b"x"})
    index = folder_index(tmp_path, classes=("a", "b", "c"))
    assert list(index.labels) == [2] and index.classes == ("a", "b", "c")
    assert "2 of 3 classes: 'a', 'b'" in index.notes[0]
    assert index.counts() == {"a": 0, "b": 0, "c": 1}
    with pytest.raises(DataError, match="'c'"):
        folder_index(tmp_path, classes=("a", "b"))


def test_digest_follows_names_sizes_and_times_only(tmp_path):
    root = make(tmp_path, {"a/1.jpg": b"x", "b/1.jpg": b"y"})
    os.utime(root / "a/1.jpg", ns=(1, 10**18))
    first = folder_index(root).digest
    assert first.startswith("metadata:") and first == folder_index(root).digest
    (root / "a/1.jpg").write_bytes(b"z")
    os.utime(root / "a/1.jpg", ns=(2, 10**18))
    assert folder_index(root).digest == first
    os.utime(root / "a/1.jpg", ns=(1, 10**18 + 1))
    second = folder_index(root).digest
    (root / "a/1.jpg").write_bytes(b"zz")
    os.utime(root / "a/1.jpg", ns=(1, 10**18))
    third = folder_index(root).digest
    (root / "a/1.jpg").rename(root / "a/2.jpg")
    assert len({first, second, third, folder_index(root).digest}) == 4


def test_content_digest_is_that_of_a_copy(tmp_path):
    files = {"a/1.jpg": b"x", "b/1.jpg": b"y" * 3_000_000}
    one, two = make(tmp_path / "one", files), make(tmp_path / "two", files)
    os.utime(two / "a/1.jpg", ns=(1, 1))
    first = content_digest(folder_index(one))
    assert first == content_digest(folder_index(two)) and first.startswith("content:")
    index = folder_index(two)
    (two / "b/1.jpg").write_bytes(b"z" * 3_000_000)
    assert content_digest(index) != first
    (two / "b/1.jpg").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        content_digest(index)


def test_subset_has_its_own_digest(tmp_path):
    index = folder_index(make(tmp_path, {"a/1.jpg": b"x", "b/1.jpg": b"y", "b/2.jpg": b"zz"}))
    part = index.subset([0, 2])
    assert part.names == ["a/1.jpg", "b/2.jpg"] and list(part.sizes) == [1, 2]
    assert part.digest not in ("", index.digest)
    assert index.subset([0, 1, 2]).digest == index.digest


def test_class_weights_are_balanced(tmp_path):
    files = {f"a/{i}.jpg": b"" for i in range(3)} | {"b/1.jpg": b""}
    index = folder_index(make(tmp_path, files))
    weights = class_weights([*index.counts().values()])
    # scikit-learn: compute_class_weight("balanced", classes=[0, 1], y=[0, 0, 0, 1])
    assert weights == pytest.approx((4 / 6, 4 / 2))
    assert sum(weights[label] for label in index.labels) == pytest.approx(len(index))
    assert class_weights([3, 1, 0])[2] == 0.0


def test_many_files_are_indexed_fast(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for i in range(1_500):
            os.close(os.open(tmp_path / folder / f"{i}.jpg", os.O_CREAT))
    start = time.perf_counter()
    assert len(folder_index(tmp_path)) == 3_000
    # Takes 0.05 s on an idle core; the bound only catches what is not linear.
    assert time.perf_counter() - start < 2
