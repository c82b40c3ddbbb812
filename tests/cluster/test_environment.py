"""A job's Python on a real SLURM: by modules, in a virtual environment, built on the nodes.

The nodes of this cluster have one disk, so two nodes of a job meet in the folder of the built
environment, as they do wherever scratch is shared: one makes it, the other waits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from harness.launch.environment_lines import cleanup_lines, environment_lines
from harness.launch.scrubbed import scrubbed
from harness.spec import Site
from tests.cluster.slurm_cluster import SlurmCluster
from tests.wheels import build_wheelhouse

ROOT = Path(__file__).resolve().parents[2]
REFUSE = """harness_refuse() { echo "harness: $2" >&2; exit "$1"; }"""
# What a rank finds; it prints one line, however many ranks write.
PROBE = """\
import json, os, sys, harness
names = ["SLURMD_NODENAME", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR", "CONDA_PREFIX", "TOOLS", "SAID"]
facts = {name: os.environ.get(name) for name in names}
facts |= {"executable": sys.executable, "prefix": sys.prefix, "harness": harness.__file__}
sys.stdout.write("rank " + json.dumps(facts) + "\\n")
"""
LOGIN = {
    "VIRTUAL_ENV": "/login/venv",
    "PYTHONPATH": "/login/packages",
    "TMPDIR": "/login/tmp",
    "CONDA_PREFIX": "/login/conda",
    "PATH": f"/login/venv/bin:/login/conda/bin:{os.environ['PATH']}",
    "SLURM_TMPDIR": "/login/other-job",
    "LOADEDMODULES": "tools/1.0",
}
"""What a user's shell may hold, and no job must see."""
LONGEST_S = 300


def site(more: dict[str, Any] | None = None, **environment: Any) -> Site:
    return Site.model_validate({"name": "here", "environment": environment, **(more or {})})


class Work:
    """A job that runs the probe in a site's environment."""

    def __init__(
        self,
        cluster: SlurmCluster,
        folder: Path,
        site: Site,
        *options: str,
        after: str = "",
        python: str | None = None,
    ) -> None:
        folder.mkdir()
        self.cluster, self.folder = cluster, folder
        probe = folder / "probe.py"
        probe.write_text(PROBE)
        lines = [
            "#!/bin/bash",
            REFUSE,
            *environment_lines(site, python),
            f'srun --open-mode=append "$harness_python" {probe}',
            "code=$?",
            after,
            *cleanup_lines(site),
            "exit $code",
        ]
        (folder / "job.sh").write_text("\n".join(lines) + "\n")
        shell = {**cluster.environment(), **LOGIN}
        without = scrubbed(shell, sys.prefix)
        kept = {name: text for name, text in shell.items() if name not in without.removed}
        logs = [f"--output={folder}/out", f"--error={folder}/err", "--open-mode=append"]
        done = subprocess.run(
            ["sbatch", "--parsable", "--chdir", str(folder), *logs, *options, "job.sh"],
            cwd=folder,
            env={**kept, "PATH": without.path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.job = done.stdout.strip()

    def end(self) -> str:
        """Waits until it is over: its state and exit code."""
        self.cluster.wait_until_ended(self.job, LONGEST_S)
        facts = self.cluster.job(self.job)
        return f"{facts['JobState']} {facts['ExitCode']}"

    @property
    def said(self) -> str:
        """What the batch shell wrote to its err."""
        return (self.folder / "err").read_text()

    def ranks(self) -> list[dict[str, str | None]]:
        """What the ranks found."""
        lines = (self.folder / "out").read_text().splitlines()
        found = [json.loads(line[5:]) for line in lines if line.startswith("rank ")]
        assert found, self.said
        return found


@pytest.fixture(scope="module")
def usable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that can import this harness."""
    folder = tmp_path_factory.mktemp("usable") / "a venv"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "harness.pth").write_text(f"{ROOT}\n")
    return folder


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of harness and of what it requires; nothing else is installed from."""
    out = tmp_path_factory.mktemp("wheel house")
    return build_wheelhouse(tmp_path_factory.mktemp("source"), out)


@pytest.fixture
def modulefiles(tmp_path: Path, usable: Path) -> Path:
    """Two modules: tools/1.2 sets a variable, python/3.11.4 brings a Python."""
    folder = tmp_path / "modulefiles"
    texts = {
        "tools/1.2": "#%Module1.0\nsetenv TOOLS 1.2\n",
        "python/3.11.4": f"#%Module1.0\nprepend-path PATH {{{usable}/bin}}\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    return folder


def test_the_submitting_python_and_nothing_else_of_its_shell(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    # Also on a site whose jobs are to start without any of the shell's variables.
    works = [
        Work(cluster, tmp_path / "all", site(), "--nodes=2"),
        Work(cluster, tmp_path / "none", site(), "--nodes=2", "--export=NONE"),
    ]
    for work in works:
        assert work.end() == "COMPLETED 0:0", work.said
        ranks = work.ranks()
        assert len({rank["SLURMD_NODENAME"] for rank in ranks}) == 2
        for rank in ranks:
            assert rank["executable"] == sys.executable
            assert rank["harness"] == str(ROOT / "harness" / "__init__.py")
            for name in ("VIRTUAL_ENV", "PYTHONPATH", "CONDA_PREFIX"):
                assert rank[name] is None, name
            assert rank["TMPDIR"] != LOGIN["TMPDIR"]


def test_modules_with_a_venv_and_modules_that_bring_the_python(
    cluster: SlurmCluster, tmp_path: Path, modulefiles: Path, usable: Path
) -> None:
    init = tmp_path / "init.sh"
    # As a site's own: it makes the command known and says where its modules are.
    init.write_text(f'. /etc/profile\nmodule use "{modulefiles}"\nSAID=init\nexport SAID\n')
    variables = {"MODULEPATH": str(modulefiles), "SAID": "$(touch canary) 'x'"}
    with_venv = site(modules=["tools/1.2"], venv=str(usable), variables=variables)
    with_python = site(modules=["tools", "python"], init=str(init), variables={"SAID": "before"})
    one = Work(cluster, tmp_path / "one", with_venv, "--nodes=2")
    two = Work(cluster, tmp_path / "two", with_python, "--nodes=2")
    assert one.end() == "COMPLETED 0:0", one.said
    for rank in one.ranks():
        assert rank["prefix"] == rank["VIRTUAL_ENV"] == str(usable)
        assert rank["TOOLS"] == "1.2"
        assert rank["SAID"] == variables["SAID"]
    assert two.end() == "COMPLETED 0:0", two.said
    for rank in two.ranks():
        assert rank["executable"] == f"{usable}/bin/python3"
        assert rank["VIRTUAL_ENV"] is None
        assert (rank["TOOLS"], rank["SAID"]) == ("1.2", "init")
    assert not list(tmp_path.glob("*/canary"))


def test_a_venv_is_built_on_two_nodes_again_after_a_requeue_and_is_gone_in_the_end(
    cluster: SlurmCluster, tmp_path: Path, wheelhouse: Path
) -> None:
    disk = tmp_path / "node's disk"
    disk.mkdir()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("harness\n")
    wanted = site(
        {"scratch_variables": ["SLURM_TMPDIR", "NODE_DISK"]},
        build={"requirements": str(requirements), "wheelhouse": str(wheelhouse)},
        variables={"NODE_DISK": str(disk)},
    )
    # The first start leaves all behind, as one that is killed.
    after = """\
ls -d "$NODE_DISK"/* | sed 's/^/there: /'
if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then scontrol requeue "$SLURM_JOB_ID"; sleep 300; fi"""
    work = Work(cluster, tmp_path / "work", wanted, "--nodes=2", "--requeue", after=after)
    assert work.end() == "COMPLETED 0:0", work.said
    there = [
        line.removeprefix("there: ")
        for line in (tmp_path / "work" / "out").read_text().splitlines()
        if line.startswith("there: ")
    ]
    assert [path.rsplit("-", 1)[0] for path in there] == [
        f"{disk}/harness-{work.job}-{start}" for start in (0, 1)
    ]
    ranks = work.ranks()
    assert len(ranks) == 4
    for place, both in zip(there, (ranks[:2], ranks[2:]), strict=True):
        assert len({rank["SLURMD_NODENAME"] for rank in both}) == 2
        for rank in both:
            assert rank["prefix"] == rank["VIRTUAL_ENV"] == f"{place}/venv"
            assert rank["executable"] == f"{place}/venv/bin/python"
            assert str(rank["harness"]).startswith(f"{place}/venv/lib/")
    assert not list(disk.iterdir())
    assert "Successfully installed" in work.said


def test_what_cannot_be_had_ends_the_job_with_3_and_says_why(
    cluster: SlurmCluster, tmp_path: Path, modulefiles: Path, wheelhouse: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    asked = {"missing": "harness\nnot-in-any-wheelhouse\n", "without": "mdurl\n"}
    for name, text in asked.items():
        (tmp_path / f"{name}.txt").write_text(text)
    variables = {"MODULEPATH": str(modulefiles)}
    hostile = tmp_path / "it's $(touch canary); touch canary #.txt"

    def built(requirements: Path) -> Site:
        build = {"requirements": str(requirements), "wheelhouse": str(wheelhouse)}
        names = {"scratch_variables": ["NODE_DISK"]}
        return site(names, build=build, variables={"NODE_DISK": str(disk)})

    cases = {
        "module": (
            site(modules=["tools", "nothing/1"], variables=variables),
            "site here: environment.modules: 'nothing/1' cannot be loaded on n",
        ),
        "code": (
            site(modules=["a;touch${IFS}canary", "$(touch${IFS}canary)"], variables=variables),
            "site here: environment.modules: 'a;touch${IFS}canary' cannot be loaded on n",
        ),
        "python": (
            site(modules=["tools"], variables=variables),
            "cannot import harness on n",
        ),
        "venv": (
            site(venv=str(tmp_path / "none")),
            f"site here: environment.venv: there is no Python at '{tmp_path}/none/bin/python' on n",
        ),
        "pip": (
            built(tmp_path / "missing.txt"),
            "ERROR: No matching distribution found for not-in-any-wheelhouse); next: see above",
        ),
        "without": (
            built(tmp_path / "without.txt"),
            "ModuleNotFoundError: No module named 'harness'); next: see above",
        ),
        "hostile": (
            built(hostile),
            "ERROR: Could not open requirements file",
        ),
    }
    works = {
        name: Work(cluster, tmp_path / name, wanted, "--nodes=1", "--cpus-per-task=1")
        for name, (wanted, _) in cases.items()
    }
    for name, work in works.items():
        assert work.end() == "FAILED 3:0", (name, work.said)
        last = work.said.splitlines()[-1]
        assert last.startswith("harness: site here: environment."), (name, work.said)
        assert cases[name][1] in last
        assert not (tmp_path / name / "out").read_text()
    # The command's own words stand above.
    assert "nothing/1" in works["module"].said.splitlines()[0]
    assert not list(disk.iterdir())
    assert not list(tmp_path.glob("**/canary"))
