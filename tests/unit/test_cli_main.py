"""The frame of every verb: exit codes, one paragraph, no traceback unless asked for."""

from __future__ import annotations

import os
import signal

import pydantic
import pytest

from harness import errors
from harness.__main__ import Interrupts
from harness.cli import main as frame


@pytest.fixture
def verb(monkeypatch):
    """``verb(error)``: makes ``harness schema`` raise it."""

    def make(error: BaseException) -> None:
        def run(args):
            raise error

        monkeypatch.setattr("harness.cli.schema.run", run)

    return make


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.TrainingError, 1),
        (errors.UsageError, 2),
        (errors.SpecError, 2),
        (errors.EnvironmentNotAble, 3),
        (errors.DataError, 4),
        (errors.StorageError, 5),
        (errors.StoppedEarly, 75),
    ],
)
def test_every_error_has_its_code(kind, code, verb, capsys):
    verb(kind("it is wrong", got="this", allowed="that", action="do so"))
    assert frame.main(["schema"]) == code
    err = capsys.readouterr().err
    assert err == "harness: it is wrong, got this, allowed: that; next: do so\n"


def test_all_problems_are_printed_and_the_traceback_only_on_request(verb, capsys):
    found = [errors.Problem("one", path="a.b", file="s.yaml", line=3), errors.Problem("two")]
    verb(errors.SpecError(found))
    assert frame.main(["schema"]) == 2
    assert capsys.readouterr().err == "harness: s.yaml:3: a.b: one\nharness: two\n"
    assert frame.main(["schema", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_control_c_is_one_line(verb, capsys):
    verb(KeyboardInterrupt())
    assert frame.main(["schema"]) == 130
    assert capsys.readouterr().err == "harness: interrupted\n"


def test_control_c_while_verbs_are_imported(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(frame.importlib, "import_module", interrupted)
    assert frame.main(["schema"]) == 130
    assert capsys.readouterr().err == "harness: interrupted\n"


def test_control_c_in_the_midst_of_a_library_that_makes_an_error_of_it(monkeypatch, capsys):
    class Slow(pydantic.BaseModel):
        @pydantic.model_serializer
        def written(self):
            os.kill(os.getpid(), signal.SIGINT)
            return {}

    def run(options):
        Slow().model_dump()

    monkeypatch.setattr("harness.cli.schema.run", run)
    before = signal.signal(signal.SIGINT, Interrupts())
    try:
        assert frame.main(["schema"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "harness: interrupted\n"


@pytest.mark.parametrize("argv", [[], ["no-such-verb"], ["run"]])
def test_usage_errors_exit_with_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        frame.main(argv)
    assert ended.value.code == 2
    assert "usage: harness" in capsys.readouterr().err


def test_errors_survive_pickling():
    import pickle

    error = errors.DataError("what", got="x", path="data.train")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.DataError
    assert again.problems == error.problems
