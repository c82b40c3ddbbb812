"""Plug-in files: whose may be run, what comes of broken ones."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from spec_helpers import write

from harness.errors import EnvironmentNotAble, SpecError
from harness.plugins import registry
from harness.spec import load_plugins
from harness.spec.config import Trust
from harness.spec.plugin_files import check_plugin, read_trusted
from harness.spec.trust import group_name

SOURCE = """\
from harness.plugins import register

@register("head", "NAME")
def head(features, classes, options, draws):
    return VALUE
"""


def plugin(folder: Path, text: str, name: str = "mine.py", mode: int = 0o644) -> Path:
    path = write(folder, text, name)
    path.chmod(mode)
    return path


def test_a_file_registers_what_it_offers(tmp_path: Path) -> None:
    source = SOURCE.replace("NAME", "of_file").replace("VALUE", "41")
    path = plugin(tmp_path, source)
    (loaded,) = load_plugins([str(path)])
    assert (loaded.path, loaded.sha256) == (path, hashlib.sha256(source.encode()).hexdigest())
    assert registry.get("head", "plugin:of_file")(None, 2, {}, None) == 41


def test_what_an_earlier_call_registered_gives_way(tmp_path: Path) -> None:
    """A second run in one process brings its own copies of the same plug-ins."""
    source = SOURCE.replace("NAME", "changing").replace("VALUE", "1")
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        path = plugin(tmp_path / folder, source.replace("return 1", f"return {value}"))
        load_plugins([str(path)])
        assert registry.get("head", "changing")(None, 2, {}, None) == value
    load_plugins([])
    assert "changing" not in registry.names("head")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_refused_before_it_runs(tmp_path: Path, mode: int) -> None:
    path = plugin(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n", mode=mode)
    with pytest.raises(SpecError) as caught:
        load_plugins([str(path)])
    assert "others may write" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_what_makes_a_writable_file_trusted(tmp_path: Path) -> None:
    path = plugin(tmp_path, "X = 1\n", mode=0o664)
    group = group_name(path.stat().st_gid)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert check_plugin(str(path), Trust())
    assert not check_plugin(str(path), Trust(groups=(group,)))
    assert not check_plugin(str(path), Trust(digests=(digest,)))
    path.chmod(0o666)
    assert check_plugin(str(path), Trust(groups=(group,)))
    assert not check_plugin(str(path), Trust(digests=(digest,)))


def test_somebody_elses_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plugin(tmp_path, "X = 1\n")
    if os.geteuid() == 0:
        os.chown(path, 54321, 54321)
        owner, group = "54321", "54321"
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        import grp
        import pwd

        facts = path.stat()
        owner = pwd.getpwuid(facts.st_uid).pw_name
        group = grp.getgrgid(facts.st_gid).gr_name
    (problem,) = check_plugin(str(path), Trust())
    assert "belongs to somebody else" in problem.what
    assert owner in (problem.got or "")
    assert not check_plugin(str(path), Trust(owners=(owner,)))
    assert not check_plugin(str(path), Trust(groups=(group,)))


def test_a_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    path = plugin(tmp_path, "X = 1\n", mode=0o666)
    link = tmp_path / "link.py"
    link.symlink_to(path)
    assert check_plugin(str(link), Trust())


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    for name in ("none.py", ".", "pipe.py"):
        with pytest.raises(SpecError):
            read_trusted(tmp_path / name, Trust())


def test_all_missing_plugins_are_named_before_any_is_run(tmp_path: Path) -> None:
    good = plugin(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(SpecError) as caught:
        load_plugins([str(good), str(tmp_path / "a.py"), "no-such-entry"])
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = 1\nraise ValueError('oh')\n", 2, "ValueError: oh"),
        ("x = 1\n\ny = = 2\n", 3, "SyntaxError"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
    ],
)
def test_a_broken_plugin_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = plugin(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        load_plugins([str(path)])
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(path), line)
    assert words in (problem.got or "")


def test_a_missing_package_is_a_matter_of_the_environment(tmp_path: Path) -> None:
    path = plugin(tmp_path, "import no_such_package_anywhere\n")
    with pytest.raises(EnvironmentNotAble) as caught:
        load_plugins([str(path)])
    assert "no_such_package_anywhere" in str(caught.value)


def test_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCE.replace("NAME", "of_entry").replace("VALUE", "7")
    module = plugin(tmp_path, source, "offered_by_entry.py")
    facts = tmp_path / "offered-1.0.dist-info"
    facts.mkdir()
    write(facts, "Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n", "METADATA")
    write(facts, "[harness.plugins]\noffered = offered_by_entry\n", "entry_points.txt")
    monkeypatch.syspath_prepend(tmp_path)
    (loaded,) = load_plugins(["offered"])
    assert loaded.path == module
    assert loaded.sha256 == hashlib.sha256(source.encode()).hexdigest()
    assert registry.get("head", "of_entry")(None, 2, {}, None) == 7
