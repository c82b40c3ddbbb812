"""What passes is waited out, a bounded time; what stays is told."""

from __future__ import annotations

import errno

import pytest

from harness.runs.patience import PASSING, WAITS_S, patiently


class Storage:
    """Fails some times, then gives an answer."""

    def __init__(self, *errors: int) -> None:
        self.errors, self.asked, self.slept = list(errors), 0, []

    def __call__(self) -> str:
        self.asked += 1
        if self.errors:
            raise OSError(self.errors.pop(0), "so it is")
        return "here"

    def ask(self, **options) -> str:
        return patiently(self, sleep=self.slept.append, **options)


@pytest.mark.parametrize("number", sorted(PASSING))
def test_what_passes_is_asked_again(number):
    storage = Storage(number, number)
    assert storage.ask() == "here"
    assert storage.slept == list(WAITS_S[:2])


def test_what_goes_well_waits_for_nothing():
    storage = Storage()
    assert (storage.ask(), storage.asked, storage.slept) == ("here", 1, [])


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_what_does_not_pass_is_told_at_once(number):
    storage = Storage(number)
    with pytest.raises(OSError) as caught:
        storage.ask()
    assert caught.value.errno == number
    assert (storage.asked, storage.slept) == (1, [])


def test_a_file_that_is_known_to_be_there_may_come_late():
    storage = Storage(errno.ENOENT, errno.ESTALE)
    assert storage.ask(late=True) == "here"


def test_it_is_tried_so_often_and_no_more():
    storage = Storage(*[errno.ESTALE] * 99)
    with pytest.raises(OSError) as caught:
        storage.ask()
    assert caught.value.errno == errno.ESTALE
    assert storage.asked == len(WAITS_S) + 1
    assert storage.slept == list(WAITS_S)


def test_other_errors_are_none_of_its_business():
    def broken():
        raise ValueError("of the program")

    with pytest.raises(ValueError):
        patiently(broken, sleep=pytest.fail)
