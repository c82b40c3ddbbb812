"""The lines that find a job's Python, run by a real bash; with SLURM they are in tests/cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.launch.environment_lines import cleanup_lines, environment_lines
from harness.spec import Site
from tests.unit.rights import lacking

REFUSE = """harness_refuse() { echo "harness: $2" >&2; exit "$1"; }"""
# A `module` as old ones are, which report nothing by their code: it knows tools/1.2 and what
# needs no more than its name.
OLD_MODULE = r"""
module() {
    printf 'asked:%s\n' "$@" >&2
    case $2 in
    tools/1)
        LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}tools/1.2
        PATH=$harness_test/tools:$PATH
        ;;
    alias) LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}real/7 ;;
    broken) LOADEDMODULES=$LOADEDMODULES:broken; return 1 ;;
    esac
}
"""


def site(**environment: Any) -> Site:
    return Site.model_validate({"name": "here", "environment": environment})


def run(
    lines: list[str], folder: Path, before: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs the lines, then says what ``harness_python`` and the environment are."""
    script = "\n".join([REFUSE, before, *lines, 'echo "python=$harness_python"', "env", "exit 0"])
    file = folder / "script.sh"
    file.write_text(script)
    bash = shutil.which("bash")
    assert bash is not None
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "harness_test": str(folder)}
    return subprocess.run(
        [bash, str(file)],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment, with a space in its path, that can import this harness."""
    folder = tmp_path_factory.mktemp("with space") / "venv"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    root = Path(__file__).resolve().parents[2]
    (packages / "harness.pth").write_text(f"{root}\n")
    return folder


def test_without_any_environment_it_is_the_python_that_submits(tmp_path: Path) -> None:
    done = run(environment_lines(site()), tmp_path)
    assert done.returncode == 0, done.stderr
    # Not resolved: a virtual environment's python is a link out of it.
    assert f"python={sys.executable}\n" in done.stdout
    assert cleanup_lines(site()) == []


def test_one_that_is_not_on_the_node_is_refused(tmp_path: Path) -> None:
    done = run(environment_lines(site(), "/no where/python3"), tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith(
        "harness: site here: no environment, so the Python that submitted: "
        "there is no Python at '/no where/python3' on "
    )
    assert "python=" not in done.stdout


def test_one_without_harness_is_refused_whatever_lies_in_the_working_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "harness").mkdir()
    venv.create(tmp_path / "empty", symlinks=True)
    done = run(environment_lines(site(venv=str(tmp_path / "empty"))), tmp_path)
    assert done.returncode == 3
    assert "cannot import harness on " in done.stderr
    assert "(ModuleNotFoundError: No module named 'harness')" in done.stderr
    assert "install harness in it" in done.stderr


def test_a_venv(tmp_path: Path, other: Path) -> None:
    done = run(environment_lines(site(venv=str(other))), tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python={other}/bin/python\n" in done.stdout
    assert f"VIRTUAL_ENV={other}\n" in done.stdout
    assert f"PATH={other}/bin:/usr/bin:/bin\n" in done.stdout


def test_variables_are_exported_as_they_stand(tmp_path: Path) -> None:
    values = {
        "A": "$(touch canary)",
        "B": "it's `touch canary`; touch canary",
        "C": "",
        "D": "$HOME",
    }
    lines = environment_lines(site(variables=values))
    done = run(lines, tmp_path, SLURM_EXPORT_ENV="NONE")
    assert done.returncode == 0, done.stderr
    for name, text in values.items():
        assert f"{name}={text}\n" in done.stdout
    assert "SLURM_EXPORT_ENV" not in done.stdout
    assert not (tmp_path / "canary").exists()


def python_in(folder: Path, python: Path) -> Path:
    """A ``python3`` that lies in no virtual environment, as that of a module."""
    folder.mkdir()
    file = folder / "python3"
    file.write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
    file.chmod(0o755)
    return file


def test_init_brings_module_and_variables_come_before(tmp_path: Path, other: Path) -> None:
    init = tmp_path / "it's init.sh"
    init.write_text(f'declare -A kept=([a]=1)\necho "$FIRST $#" >said\n{OLD_MODULE}\nfalse\n')
    python = python_in(tmp_path / "tools", other / "bin" / "python")
    wanted = site(init=str(init), modules=["tools/1"], variables={"FIRST": "1st"})
    done = run([*environment_lines(wanted), 'echo "kept=${kept[a]}"'], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "said").read_text() == "1st 0\n"
    assert done.stderr == "asked:load\nasked:tools/1\n"
    assert f"kept=1\npython={python}\n" in done.stdout


def test_init_alone_may_bring_the_python(tmp_path: Path, other: Path) -> None:
    python = python_in(tmp_path / "tools", other / "bin" / "python")
    (tmp_path / "init.sh").write_text("PATH=$harness_test/tools:$PATH\n")
    done = run(environment_lines(site(init=str(tmp_path / "init.sh"))), tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"python={python}\n" in done.stdout


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["tools/1"], 0),
        (["alias"], 0),
        (["alias", "tools/1"], 0),
        (["tools/1", "tools/1"], 0),
        (["missing"], 3),
        (["tools/1", "missing"], 3),
        (["broken"], 3),
        (["tools"], 3),
    ],
)
def test_modules_that_report_no_failure(
    tmp_path: Path, other: Path, names: list[str], code: int
) -> None:
    done = run(environment_lines(site(modules=names, venv=str(other))), tmp_path, OLD_MODULE)
    assert done.returncode == code, done.stderr
    if code:
        assert f"environment.modules: '{names[-1]}' cannot be loaded on " in done.stderr
    else:
        assert f"python={other}/bin/python\n" in done.stdout


def test_with_modules_the_python_is_never_the_submitting_one(tmp_path: Path) -> None:
    python = python_in(tmp_path / "node", Path(sys.executable))
    lines = environment_lines(site(modules=["alias"]))
    done = run(lines, tmp_path, OLD_MODULE, PATH=f"{python.parent}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert f"python={python}\n" in done.stdout
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    for name in ("uname", "env"):
        (nowhere / name).symlink_to(f"/usr/bin/{name}")
    done = run(lines, tmp_path, OLD_MODULE, PATH=str(nowhere))
    assert done.returncode == 3
    assert "site here: environment.modules: there is no Python at '' on " in done.stderr


def test_init_that_is_not_there(tmp_path: Path) -> None:
    done = run(environment_lines(site(init=str(tmp_path / "none.sh"))), tmp_path)
    assert done.returncode == 3
    assert f"environment.init: {tmp_path}/none.sh cannot be read" in done.stderr


HOSTILE = ["a;touch${IFS}canary", "$(touch${IFS}canary)", "`touch${IFS}canary`", "'\"|&", "*", "~"]


@pytest.mark.parametrize("name", HOSTILE)
def test_module_names_are_data(tmp_path: Path, name: str) -> None:
    done = run(environment_lines(site(modules=[name])), tmp_path, OLD_MODULE)
    assert done.returncode == 3
    assert f"asked:load\nasked:{name}\n" in done.stderr
    assert f"'{name}' cannot be loaded" in done.stderr
    assert not (tmp_path / "canary").exists()


texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)


@settings(max_examples=25)
@given(texts, texts, texts)
def test_no_text_of_a_site_is_code(
    tmp_path_factory: pytest.TempPathFactory, value: str, module: str, path: str
) -> None:
    """Built without the model's checks, so that only the quoting stands in between."""
    folder = tmp_path_factory.mktemp("any")
    wanted = site(variables={"A": value}, modules=["alias"], venv="/v")
    environment = wanted.environment.model_copy(
        update={"modules": (module,), "venv": f"/none/{path}"}
    )
    wanted = wanted.model_copy(update={"environment": environment})
    loads = 'module() { LOADEDMODULES=$2; printf "%s" "$A" >value; printf "%s" "$2" >module; }'
    done = run(environment_lines(wanted), folder, loads)
    assert done.returncode == 3
    assert (folder / "value").read_text() == value
    assert (folder / "module").read_text() == module
    assert f"there is no Python at '/none/{path}/bin/python' on " in done.stderr
    assert {file.name for file in folder.iterdir()} == {"script.sh", "value", "module"}


def test_a_venv_and_a_build_exclude_each_other() -> None:
    with pytest.raises(ValueError):
        site(venv="/v", build={"requirements": "/r"})


def test_only_what_is_needed_is_in_the_script() -> None:
    plain = "\n".join(environment_lines(site()))
    assert "module" not in plain
    assert "srun" not in plain
    built = site(build={"requirements": "/r"})
    assert "harness_build here" in "\n".join(environment_lines(built))
    assert cleanup_lines(built) == ["harness_remove_build"]


def test_the_lines_are_clean_to_shellcheck(tmp_path: Path) -> None:
    """With every form at once; what the script defines before is declared."""
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        lacking("shellcheck is missing; next: sudo .ci/system-packages scripts")
    wanted = site(modules=["a", "b"], init="/i", build={"requirements": "/r"}, variables={"A": "b"})
    lines = [*environment_lines(wanted), 'echo "$harness_python"', *cleanup_lines(wanted)]
    file = tmp_path / "lines.sh"
    file.write_text("\n".join(["#!/bin/bash", REFUSE, *lines]) + "\n")
    done = subprocess.run(
        [shellcheck, "--exclude=SC1091", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
