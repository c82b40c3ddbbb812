"""Quota tables as the commands print them, and what is made of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.launch.quota import check_storage, choose, fill, judge
from harness.launch.quota_table import Quota, Use, read_quotas
from harness.runs.mounts import Mount

KB = 1024
HEAD = """\
Disk quotas for user alice (uid 1001):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
"""
LFS_HEAD = """\
Disk quotas for usr alice (uid 1001):
     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace
"""
SCALE_HEAD = """\
                         Block Limits                                    |     File Limits
Filesystem type             {unit}      quota      limit   in_doubt    grace |    files   quota  \
  limit in_doubt    grace  Remarks
"""


def row(
    system: str,
    *numbers: int | None,
    expired: tuple[bool, bool] = (False, False),
    sure: bool = True,
) -> Quota:
    used, soft, hard, files, few, many = numbers
    assert used is not None
    assert files is not None
    return Quota(system, Use(used, soft, hard, expired[0]), Use(files, few, many, expired[1]), sure)


TABLES = {
    "no grace": (
        HEAD + "storage:/home 4521340  5000000 5500000           81234  100000  110000\n",
        [row("storage:/home", 4521340 * KB, 5000000 * KB, 5500000 * KB, 81234, 100000, 110000)],
    ),
    "grace of blocks": (
        HEAD + "      /dev/sdb1 5100000* 5000000 5500000   6days   81234       0       0\n",
        [row("/dev/sdb1", 5100000 * KB, 5000000 * KB, 5500000 * KB, 81234, None, None)],
    ),
    "grace of files": (
        HEAD + "      /dev/sdb1 4100000  5000000 5500000           81234*  80000   90000   02:15\n",
        [row("/dev/sdb1", 4100000 * KB, 5000000 * KB, 5500000 * KB, 81234, 80000, 90000)],
    ),
    "both, one over": (
        HEAD + "      /dev/sdb1 5100000* 5000000 5500000    none   81234*  80000   90000   6days\n",
        [
            row("/dev/sdb1", 5100000 * KB, 5000000 * KB, 5500000 * KB, 81234, 80000, 90000,
                expired=(True, False))
        ],
    ),
    "raw grace (-p)": (
        HEAD + "      /dev/sdb1 5100000* 5000000 5500000 1700000000 81234  100000  110000  0\n",
        [row("/dev/sdb1", 5100000 * KB, 5000000 * KB, 5500000 * KB, 81234, 100000, 110000)],
    ),
    "shortened (-s)": (
        HEAD.replace("blocks", " space")
        + "      /dev/sdb1   4416M   5000M   5500M            161k    200k    1000k\n",
        [row("/dev/sdb1", 4416 << 20, 5000 << 20, 5500 << 20, 161_000, 200_000, 1_000_000)],
    ),
    "wrapped": (
        HEAD + "/dev/mapper/vg-lv_home\n                 6500004* 6000000 6500000   6days   437"
        "       0       0\n",
        [row("/dev/mapper/vg-lv_home", 6500004 * KB, 6000000 * KB, 6500000 * KB, 437, None, None)],
    ),
    "two systems": (
        HEAD + "  a:/home 1 2 3   4 5 6\n  b:/work 7 0 0   8 0 0\n",
        [
            row("a:/home", KB, 2 * KB, 3 * KB, 4, 5, 6),
            row("b:/work", 7 * KB, None, None, 8, None, None),
        ],
    ),
    "none": ("Disk quotas for user alice (uid 1001): none\n", []),
    "lfs": (
        LFS_HEAD + "          /home 37414052  358847931 391470470       -   32959       0       0 "
        "      -\nuid 1001 is using default file quota setting\n",
        [row("/home", 37414052 * KB, 358847931 * KB, 391470470 * KB, 32959, None, None)],
    ),
    "lfs -q, wrapped, over": (
        "/lustre/long_name\n                 3165308*   3072    4096  6d23h59m55s "
        " 48  1073741824 2147483648       -\n",
        [
            row("/lustre/long_name", 3165308 * KB, 3072 * KB, 4096 * KB, 48, 1 << 30, 2 << 30)
        ],
    ),
    "lfs -h": (
        LFS_HEAD + "   /scratch  4.5G    10G     20G       -   81234   100000  200000       -\n",
        [row("/scratch", int(4.5 * 2**30), 10 << 30, 20 << 30, 81234, 100_000, 200_000)],
    ),
    "lfs, not sure": (
        LFS_HEAD + "      /lustre01 [1048576] 2097152 4194304       - [1000] 5000 10000       -\n"
        "Some errors happened when getting quota info. Some devices may be not working or\n",
        [row("/lustre01", 1 << 30, 2 << 30, 4 << 30, 1000, 5000, 10000, sure=False)],
    ),
    "lfs -v": (
        LFS_HEAD + "  /lustre 476320       0       0       -     270       0       0       -\n"
        "lustre-MDT0000_UUID\n            100       -       0       -     270       -  0   -\n"
        "lustre-OST0000_UUID\n         476220       -       0       -       -       -  -   -\n",
        [row("/lustre", 476320 * KB, None, None, 270, None, None)],
    ),
    "mmlsquota": (
        SCALE_HEAD.format(unit="KB") + "gpfs       USR   28292096 3221225472 4294967296        "
        "  0     none |   1367 2000000  3000000        0  none\nother  USR   no limits\n",
        [row("gpfs", 28292096 * KB, 3 << 40, 4 << 40, 1367, 2000000, 3000000,
             expired=(True, True))],
    ),
    "mmlsquota with filesets, auto": (
        "Filesystem Fileset    type         blocks      quota      limit   in_doubt    grace |    "
        "files   quota    limit in_doubt    grace  Remarks\ngpfs home  USR    829G   "
        "      1T     2T          0     7 days |   363010 1000000  1500000        0     none x.y\n",
        [row("gpfs", 829 << 30, 1 << 40, 2 << 40, 363010, 1000000, 1500000, expired=(False, True))],
    ),
    "mmlsquota in GB": (
        SCALE_HEAD.format(unit="GB")
        + "gpfs       USR   27  3072  4096  0  none |  136704 2000000  3000000  0  none\n",
        [row("gpfs", 27 << 30, 3 << 40, 4 << 40, 136704, 2000000, 3000000, expired=(True, True))],
    ),
    "something else": ("Usage of /work: 91% of 10 TB | 120000 of 1000000 files\n", []),
}  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), TABLES.values(), ids=TABLES)
def test_tables_are_read(text: str, wanted: list[Quota]) -> None:
    assert read_quotas(text) == wanted


@given(st.text(st.sampled_from("0123456789 *[]-|kMG/\nUSRnone"), max_size=120))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for quota in read_quotas(text):
        assert quota.system
        assert quota.bytes.used >= 0


@given(
    st.lists(st.integers(0, 10**12), min_size=6, max_size=6),
    st.sampled_from(["", "-", "6days", "none", "6d23h"]),
    st.sampled_from(["", "-", "02:15", "expired"]),
    st.booleans(),
)
def test_empty_and_filled_columns_give_the_same_numbers(
    numbers: list[int], first: str, second: str, over: bool
) -> None:
    used, soft, hard, files, few, many = numbers
    mark = "*" if over else ""
    line = f"/work {used}{mark} {soft} {hard} {first}  {files} {few} {many} {second}"
    (quota,) = read_quotas(HEAD + line)
    assert (quota.bytes.used, quota.files.used) == (used * KB, files)
    assert (quota.bytes.hard, quota.files.soft) == (hard * KB or None, few or None)


@pytest.mark.parametrize(
    ("use", "left"),
    [
        (Use(10, None, None), None),
        (Use(10, 20, 30), 20),
        (Use(25, 20, 30), 5),
        (Use(25, 20, 30, expired=True), 0),
        (Use(15, 20, 30, expired=True), 15),
        (Use(25, 20, None), None),
        (Use(40, None, 30), 0),
    ],
)
def test_what_is_left(use: Use, left: int | None) -> None:
    assert use.left() == left


def quota(system: str, used: int = 0, hard: int | None = None) -> Quota:
    return Quota(system, Use(used, None, hard), Use(0, None, None))


def test_the_line_of_the_run_directorys_file_system_is_chosen() -> None:
    place = Path("/scratch/alice/runs")
    mount = Mount("/scratch", "nfs4", "storage:/export/scratch")
    home, scratch = quota("storage:/export/home"), quota("storage:/export/scratch")
    assert choose([home, scratch], place, mount, trusted=False)[0] == scratch
    given = quota("/scratch/alice")
    assert choose([quota("/other/x"), given], place, mount, trusted=False)[0] == given
    scale = Mount("/gpfs", "gpfs", "/dev/gpfs1")
    named = [quota("gpfs0"), quota("gpfs1")]
    assert choose(named, Path("/gpfs/a"), scale, trusted=False)[0] == named[1]
    # A single line counts for another name only if the command was asked for this place.
    assert choose([home], place, mount, trusted=True)[0] == home
    found, why = choose([home], place, mount, trusted=False)
    assert found is None
    assert "storage:/export/home" in why
    found, why = choose([scratch, scratch], place, mount, trusted=True)
    assert found is None
    assert "cannot be told" in why
    assert choose([], place, None, trusted=True)[0] is None


def test_verdicts() -> None:
    problems, notes = judge(quota("/s", 100, 200), 50, 10)
    assert not problems
    assert notes == ["your quota on /s has room: 100 bytes left, no limit of files"]
    problems, _ = judge(quota("/s", 180, 200), 50, 10)
    assert str(problems[0]).startswith(
        "your quota of bytes on /s leaves too little for this run, got 20 bytes left of 200 bytes,"
        " up to 50 bytes needed; next: "
    )
    soft = Quota("/s", Use(0, None, None), Use(95, 100, 200))
    problems, notes = judge(soft, 50, 10)
    assert not problems
    assert "files on /s is above its soft limit with this run (95 of 100 used)" in notes[0]
    unsure = Quota("/s", Use(180, None, 200), Use(0, None, None), sure=False)
    problems, notes = judge(unsure, 50, 10)
    assert not problems
    assert "not sure" in notes[0]


def test_the_command_gets_user_and_path_and_its_failures_are_notes(tmp_path: Path) -> None:
    words = fill(["lfs", "quota", "-u", "{user}", "{path}"], tmp_path)
    assert words[:3] == ["lfs", "quota", "-u"]
    assert words[4] == str(tmp_path)
    for command, said in (
        ([], "names no quota_command"),
        ([str(tmp_path / "gone")], "cannot be run"),
        (["false"], "ended with 1"),
        (["echo", "all is well, $(id)"], "said 'all is well, $(id)'"),
        (["true"], "said nothing"),
    ):
        problems, notes = check_storage(command, tmp_path / "run", 10)
        assert not problems
        assert any(said in note for note in notes), notes


def test_a_file_system_without_so_many_files_is_refused(tmp_path: Path) -> None:
    facts = os.statvfs(tmp_path)
    if facts.f_files == 0:
        return  # this file system does not count them
    problems, _ = check_storage([], tmp_path, facts.f_favail * 2 + 1)
    assert "almost no files left" in problems[0].what
