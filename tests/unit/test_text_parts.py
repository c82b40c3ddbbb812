"""The preparation of the text job: what it reads, and what it refuses."""

from __future__ import annotations

import io
import json
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "jobs"))

import text_prepare
from quickstart_parts.downloads import Unusable
from text_parts import corpora


def snippet(text: str, rating: float, document: str = "d") -> corpora.Snippet:
    return corpora.Snippet(text, document, rating)


@pytest.mark.parametrize(
    ("rating", "label"),
    [(1.0, "positive"), (3.9, "positive"), (0.99, None), (0, None), (-1.0, "negative")],
)
def test_labels_are_clear_ratings(rating, label):
    assert snippet("a", rating).label == label


def test_lines_are_read_as_they_stand():
    content = b"12_3\t-1.5\tno  good &amp; dear\n12_4\t0.2\tit &lt;is&gt;\n"
    assert list(corpora.read_corpus(content, "products")) == [
        corpora.Snippet("no good & dear", "products-12", -1.5),
        corpora.Snippet("it <is>", "products-12", 0.2),
    ]
    with pytest.raises(ValueError):
        list(corpora.read_corpus(b"1\t2\n", "tweets"))


def test_each_text_is_taken_once():
    some = [
        snippet("Yes", 2),
        snippet("yes", 3),
        snippet("no", -2),
        snippet("so", 0),
        snippet("", 2),
    ]
    assert [one.text for one in corpora.chosen(some)] == ["Yes", "no"]


def test_the_test_is_a_fifth_of_the_documents_whatever_else_there_is():
    drawn = [corpora.is_test(f"tweets-{number}") for number in range(4000)]
    assert sum(drawn) / 4000 == pytest.approx(0.2, abs=0.02)
    assert drawn == [corpora.is_test(f"tweets-{number}") for number in range(4000)]


def archive() -> bytes:
    inner, outer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for corpus, name in corpora.FILES.items():
            lines = [f"{n}_1\t{2 if n % 2 else -2}\t{corpus} says {n}" for n in range(40)]
            content = "\n".join([*lines, "99\t2\tthe same everywhere"]).encode()
            info = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with zipfile.ZipFile(outer, "w") as opened:
        opened.writestr(corpora.ARCHIVE, inner.getvalue())
    return outer.getvalue()


def test_manifests_share_no_document_and_no_text(tmp_path):
    counts = corpora.write_manifests(archive(), tmp_path)
    assert counts["train"] + counts["test"] == 81
    assert counts["movies"] == counts["news"] == 41
    rows = {
        name: [line.split("\t") for line in (tmp_path / f"{name}.tsv").read_text().splitlines()]
        for name in counts
    }
    assert rows["train"][0] == list(corpora.COLUMNS)
    for column in (0, 2):
        train, test = ({row[column] for row in rows[name][1:]} for name in ("train", "test"))
        assert not train & test


def test_another_archive_of_the_corpora_is_refused(tmp_path):
    (tmp_path / "vaderSentiment-0.5.zip").write_bytes(archive())
    with pytest.raises(Unusable, match="SHA-256"):
        text_prepare.make_texts(tmp_path, tmp_path)


def safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        kind = {"float32": "F32", "int64": "I64"}[array.dtype.name]
        offsets = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        body += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_safetensors_are_read_with_numpy():
    pytest.importorskip("tensorflow_text")
    from text_parts.minilm import read_safetensors

    arrays = {
        "numbers": np.arange(4),
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.ones(3, np.float32),
    }
    found = read_safetensors(safetensors(arrays))
    assert list(found) == ["b", "a"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])
    for broken in (b"", b"short", struct.pack("<Q", 1 << 40) + b"{}"):
        with pytest.raises(ValueError, match="no safetensors file"):
            read_safetensors(broken)
