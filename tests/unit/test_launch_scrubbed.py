"""What of the submitting shell reaches the job, and what does not."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.launch.scrubbed import scrubbed, unset_line

GONE = [
    "SLURM_JOB_ID",
    "SLURM_CPU_BIND",
    "SLURMD_NODENAME",
    "SBATCH_PARTITION",
    "SRUN_DEBUG",
    "SALLOC_ACCOUNT",
    "SQUEUE_FORMAT",
    "SUBMITIT_EXECUTOR",
    "TF_CONFIG",
    "HOROVOD_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PMI2_RANK",
    "PMIX_RANK",
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "CONDA_SHLVL",
    "TMPDIR",
    "TMP",
    "TEMP",
    "DISPLAY",
    "SSH_AUTH_SOCK",
    "SSH_CONNECTION",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "LOADEDMODULES",
    "_LMFILES_",
    "__MODULES_LMALTNAME",
    "_ModuleTable001_",
    "__LMOD_REF_COUNT_PATH",
]
KEPT = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TERM",
    "SLURM_CONF",
    "LD_LIBRARY_PATH",
    "MODULEPATH",
    "MODULESHOME",
    "LMOD_PKG",
    "BASH_ENV",
    "BASH_FUNC_module%%",
    "http_proxy",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "TFHUB_CACHE_DIR",
    "SCRATCH",
    "KRB5CCNAME",
    "PIP_CONFIG_FILE",
    "TF_CPP_MIN_LOG_LEVEL",
    "NCCL_DEBUG",
    "PYTHONUNBUFFERED",
    "MY_SLURM",
    "TMPFILES",
]


@pytest.mark.parametrize("name", GONE)
def test_what_belongs_to_the_login_node_is_removed(name: str) -> None:
    assert scrubbed({name: "x", "PATH": "/bin"}).removed == [name]


@pytest.mark.parametrize("name", KEPT)
def test_what_belongs_to_the_user_is_kept(name: str) -> None:
    assert scrubbed({name: "x", "PATH": "/bin"}).removed == []


@pytest.mark.parametrize(
    ("more", "path", "wanted"),
    [
        ({}, "/usr/bin:/bin", "/usr/bin:/bin"),
        ({"VIRTUAL_ENV": "/h/v"}, "/h/v/bin:/usr/bin:/h/v/bin/", "/usr/bin"),
        ({"VIRTUAL_ENV": "/h/v/"}, "/h/v2/bin:/h/v/bin:/h/v/lib", "/h/v2/bin:/h/v/lib"),
        (
            {"CONDA_PREFIX": "/c/envs/a", "CONDA_PREFIX_1": "/c"},
            "/c/envs/a/bin:/c/condabin:/c/bin:/opt/slurm/bin",
            "/opt/slurm/bin",
        ),
        # An environment that claims to be the system's does not take the system away.
        ({"CONDA_PREFIX": "/usr"}, "/usr/bin:/usr/sbin", "/usr/bin:/usr/sbin"),
        ({"VIRTUAL_ENV": "/"}, "/bin:/usr/bin", "/bin:/usr/bin"),
        ({"VIRTUAL_ENV": "v"}, "v/bin:/usr/bin", "/usr/bin"),
        ({}, ":.:../x:/bin:", "/bin"),
        ({"VIRTUAL_ENV": "/v"}, "/v/bin", "/usr/bin:/bin"),
        ({}, "", "/usr/bin:/bin"),
    ],
)
def test_path(more: dict[str, str], path: str, wanted: str) -> None:
    assert scrubbed({**more, "PATH": path}).path == wanted


def test_a_python_that_was_never_activated_leaves_path_too() -> None:
    assert scrubbed({"PATH": "/w/.venv/bin:/bin"}, "/w/.venv").path == "/bin"
    assert scrubbed({"PATH": "/usr/bin:/bin"}, "/usr").path == "/usr/bin:/bin"
    assert scrubbed({}).path == "/usr/bin:/bin"


names = st.text(st.characters(exclude_characters="=\0", codec="utf-8"), min_size=1)
environments = st.dictionaries(st.one_of(names, st.sampled_from(GONE + KEPT)), st.text())


@given(environments, st.lists(st.sampled_from(["/a/bin", "/b/bin", "", ".", "/usr/bin"])))
def test_what_is_left_needs_no_second_scrubbing(environ: dict[str, str], path: list[str]) -> None:
    environ = {**environ, "VIRTUAL_ENV": "/a", "PATH": ":".join(path)}
    removed, clean = scrubbed(environ)
    assert removed == sorted(set(removed) & set(environ))
    assert "PATH" not in removed
    left = {k: v for k, v in environ.items() if k not in removed} | {"PATH": clean}
    assert scrubbed(left) == ([], clean)
    folders = clean.split(":")
    assert all(folder.startswith("/") for folder in folders)
    assert "/a/bin" not in folders
    assert [f for f in path if f == "/b/bin"] == [f for f in folders if f == "/b/bin"]


def test_env_takes_it_as_it_is() -> None:
    environ = {"PATH": "/v/bin:/usr/bin:/bin", "VIRTUAL_ENV": "/v", "A": "1", "TMPDIR": "/t"}
    removed, path = scrubbed(environ)
    env = shutil.which("env")
    assert env is not None
    words = [word for name in removed for word in ("-u", name)]
    done = subprocess.run(
        [env, *words, f"PATH={path}", env], env=environ, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.split()) == ["A=1", "PATH=/usr/bin:/bin"]


def test_the_line_for_other_shells_unsets_what_a_job_cannot_have_of_its_own() -> None:
    gone = ["TF_CONFIG", "PYTHONPATH", "VIRTUAL_ENV", "HOROVOD_RANK", "OMPI_X", "CONDA_PREFIX"]
    kept = ["CUDA_VISIBLE_DEVICES", "TMPDIR", "SLURM_JOB_ID", "LOADEDMODULES", "PATH", "HOME"]
    code = unset_line() + '\nfor name in "$@"; do echo "$name=${!name-unset}"; done'
    done = subprocess.run(
        ["bash", "-c", code, "bash", *gone, *kept],
        env={"PATH": "/usr/bin:/bin", **dict.fromkeys([*gone, *kept[:-2], "HOME"], "x")},
        capture_output=True,
        text=True,
        check=True,
    )
    said = dict(line.split("=", 1) for line in done.stdout.split())
    assert {name for name, value in said.items() if value == "unset"} == set(gone)
    assert done.stderr == ""
