"""Several ranks with an error, corrupt pictures or a loss that is not finite on one of them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.horovod_here import need_horovod
from tests.local.rank_helpers import (
    assert_all,
)
from tests.local.ranks_end_helpers import Write, data, last_end, train, trouble, write
from tests.local.training_helpers import (
    checkpoint_steps,
    lines,
)

__all__ = ["data", "write"]  # fixtures, found by their names


def test_an_error_of_one_rank_is_the_run_s_by_its_name(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    spec = write(tmp_path, **trouble(tmp_path, "raise", rank=1, at=4))
    first, second = train(spec, 2)
    assert (first.code, second.code) == (1, 1), first.err + second.err
    end = last_end(spec)
    assert end["outcome"] == "failed"
    assert end["message"].startswith("rank 1 (")
    assert "the moon is full" in end["message"]
    assert (tmp_path / "run" / "FAILED").exists()


def test_a_rank_that_cannot_open_the_data_says_so_for_all(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    source = {"plugin": "picky", "options": {"rank": 1}}
    changes = {"data.source": source, "data.train": "x", "data.test": None}
    spec = write(tmp_path, **changes)
    first, second = train(spec, 2)
    end = last_end(spec)
    assert end["message"].startswith("rank 1 (")
    assert "no such tape" in end["message"]
    assert first.code == second.code == end["exit_code"] != 0
    assert "no such tape" in second.err


def test_corrupt_pictures_count_together_and_are_listed_once(
    tmp_path: Path, write: Write, data: Path
) -> None:
    """And weights drawn by each rank are made equal; and one rank can end training for all."""
    need_horovod("gloo")
    broken = with_broken(tmp_path / "data", data, 8)
    spec = write(
        tmp_path,
        **trouble(tmp_path, "stop", rank=1, at=8),
        **{
            "data.train": str(tmp_path / "data"),
            "data.validation": None,
            "data.corrupt": {"policy": "skip", "limit": "20%"},
            "head": {"plugin": "plugin:unseeded"},
            "checkpoint.best": {"metric": "loss", "mode": "min"},
        },
    )
    ended = train(spec, 2)
    assert_all(ended)
    listed = [line["name"] for line in lines(tmp_path / "run" / "corrupt.jsonl")]
    assert sorted(listed) == sorted(broken)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["counts"]["corrupt"] == len(broken)
    step = int((tmp_path / "mark").read_text())
    assert max(checkpoint_steps(tmp_path / "run")) == step < 20


def test_the_limit_of_corrupt_pictures_is_for_all_ranks_together(
    tmp_path: Path, write: Write, data: Path
) -> None:
    need_horovod("gloo")
    with_broken(tmp_path / "data", data, 8)
    spec = write(
        tmp_path,
        **{
            "data.train": str(tmp_path / "data"),
            "data.validation": None,
            "data.corrupt": {"policy": "skip", "limit": "13%"},  # 6 of 51
            "checkpoint.best": {"metric": "loss", "mode": "min"},
        },
    )
    ended = train(spec, 2)
    assert [one.code for one in ended] == [4, 4], ended[0].err + ended[1].err
    assert last_end(spec)["outcome"] == "refused"


def with_broken(folder: Path, data: Path, count: int) -> list[str]:
    """The training pictures with ``count`` of them spoiled, all over the order; their names."""
    names = []
    for number, picture in enumerate(sorted((data / "train").rglob("*.png"))):
        name = picture.relative_to(data / "train")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        spoiled = number % 6 == 0 and len(names) < count
        (folder / name).write_bytes(b"no picture" if spoiled else picture.read_bytes())
        if spoiled:
            names.append(str(name))
    return names


def test_a_loss_that_is_not_finite_fails_the_run_once(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    spec = write(tmp_path, head={"plugin": "plugin:breaks"})
    ended = train(spec, 2)
    assert [one.code for one in ended] == [1, 1], ended[0].err + ended[1].err
    ends = [line for line in lines(tmp_path / "run" / "attempts.jsonl") if line["event"] == "end"]
    assert len(ends) == 1
    assert ends[0]["outcome"] == "failed"
    assert "failed:" not in ends[0]["message"]  # rank 0 has met it itself
    assert "the loss of step 7" in ends[0]["message"]


def test_a_rank_that_drifts_away_is_named(tmp_path: Path, write: Write) -> None:
    need_horovod("gloo")
    spec = write(tmp_path, **trouble(tmp_path, "drift", rank=1, at=3))
    ended = train(spec, 2)
    assert [one.code for one in ended] == [1, 1], ended[0].err + ended[1].err
    message = last_end(spec)["message"]
    assert "the replicas do not have the same weights after step" in message
    assert "rank 1 of 2 in head_dense_0/kernel" in message
