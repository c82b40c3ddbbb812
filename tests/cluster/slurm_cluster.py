"""A real SLURM with three nodes and accounting, in one folder, on loopback, for one user."""

from __future__ import annotations

import functools
import secrets
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

from tests.cluster.client import Client
from tests.cluster.configuration import (
    ACCOUNT,
    CLUSTER,
    CONFIGURATIONS,
    JOB_SUBMIT_LUA,
    NODES,
    OTHER_ACCOUNT,
    OTHER_QOS,
    QOS,
    Configuration,
    Ports,
    gres_conf,
    slurm_conf,
    slurmdbd_conf,
    user_name,
)
from tests.cluster.processes import (
    MARK,
    ClusterError,
    Daemon,
    end_leftovers,
    free_ports,
    is_listening,
    wait_until,
)

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
SOCKET_PATH_BYTES = 107
"""What fits into ``sun_path`` of a UNIX socket, without its final zero."""


class SlurmCluster(Client):
    """munged, MariaDB, slurmdbd, slurmctld and three slurmd, all of them children of this process.

    ``folder`` is made by ``start`` and removed by ``stop``; the configuration is one of
    ``CONFIGURATIONS``, by name or changed with ``dataclasses.replace``.  A context manager.
    What can be asked of a running cluster stands in :class:`tests.cluster.client.Client`.
    """

    def __init__(self, folder: Path, configuration: Configuration | str = "default") -> None:
        if isinstance(configuration, str):
            configuration = CONFIGURATIONS[configuration]
        super().__init__(folder.absolute(), configuration)
        self.daemons: list[Daemon] = []
        self.ports: Ports | None = None
        longest = len(str(self.folder / "database.socket"))
        if longest > SOCKET_PATH_BYTES:
            raise ClusterError(f"too long for a path with sockets in it: {self.folder}")

    def start(self) -> None:
        """Starts everything and waits until all nodes take jobs.

        Raises :class:`ClusterError` with the last lines of the log of the daemon that failed,
        after stopping what had been started.
        """
        self.folder.mkdir(mode=0o700)
        try:
            self.ports = self._write_files()
            database = self._start_database() if self.configuration.accounting else None
            self._start_authentication()
            if database is not None:
                self._start_accounting(database)
            self._start_controller_and_nodes(self.ports)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the daemons and all jobs at once and removes the folder; may be repeated."""
        while self.daemons:
            daemon = self.daemons.pop()
            daemon.stop(STOP_TIMEOUT_S)
        end_leftovers(self.folder)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def __enter__(self) -> SlurmCluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # ---- the steps of the start, in their order

    def _write_files(self) -> Ports:
        numbers = free_ports(2 + len(NODES))
        ports = Ports(numbers[0], numbers[1], tuple(numbers[2:]))
        for name in ("log", "state", "database", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(mode=0o700)
        texts = {
            "slurm.conf": slurm_conf(self.configuration, self.folder, ports),
            "gres.conf": gres_conf(),
            "slurmdbd.conf": slurmdbd_conf(self.folder, ports),
            "job_submit.lua": JOB_SUBMIT_LUA,
        }
        for name, text in texts.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o600)
        return ports

    def _daemon(self, name: str, *command: str) -> Daemon:
        environment = {
            "PATH": self.environment()["PATH"],
            "LC_ALL": "C",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "MYSQL_UNIX_PORT": str(self.folder / "database.socket"),
            MARK: str(self.folder),
        }
        daemon = Daemon(name, command, self.folder / "log" / f"{name}.log", environment)
        self.daemons.append(daemon)
        return daemon

    def _start_authentication(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(64))
        files = {
            "key-file": key,
            "socket": self.folder / "munge.socket",
            "pid-file": self.folder / "munged.pid",
            "seed-file": self.folder / "munged.seed",
        }
        options = [f"--{name}={path}" for name, path in files.items()]
        # --force: the socket may lie in a folder that only its owner can enter; here it should.
        munged = self._daemon("munged", "munged", "-F", "--force", "--num-threads=10", *options)
        wait_until(files["socket"].exists, "munged answers", START_TIMEOUT_S, [munged])

    def _start_database(self) -> Daemon:
        """A new MariaDB that listens on a socket of the folder and knows no passwords."""
        data = self.folder / "database"
        common = ["--no-defaults", f"--datadir={data}", f"--user={user_name()}"]
        # It lives as long as the folder: nothing has to outlast a power cut.
        quick = [
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-flush-method=nosync",
            "--innodb-doublewrite=0",
            "--sync-frm=0",
        ]
        made = subprocess.run(
            ["mariadb-install-db", *common, *quick, "--skip-test-db", "--skip-name-resolve"],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ClusterError(f"mariadb-install-db failed:\n{made.stdout}{made.stderr}")
        return self._daemon(
            "mariadbd",
            "mariadbd",
            *common,
            *quick,
            "--skip-networking",
            "--skip-grant-tables",
            f"--socket={self.folder}/database.socket",
            f"--tmpdir={data}",
            f"--pid-file={self.folder}/mariadbd.pid",
        )

    def _start_accounting(self, database: Daemon) -> None:
        answers = (self.folder / "database.socket").exists
        wait_until(answers, "MariaDB answers", START_TIMEOUT_S, [database])
        slurmdbd = self._daemon("slurmdbd", "slurmdbd", "-D")

        def registered() -> bool:
            return (
                self.run("sacctmgr", "-i", "add", "cluster", CLUSTER, check=False).returncode == 0
            )

        wait_until(registered, "slurmdbd answers", START_TIMEOUT_S, [slurmdbd])
        for words in (
            f"add qos {QOS} {OTHER_QOS}",
            f"add account {ACCOUNT} {OTHER_ACCOUNT} cluster={CLUSTER}",
            f"add user {user_name()} account={ACCOUNT} defaultaccount={ACCOUNT}"
            f" qos=normal,{QOS} defaultqos=normal",
        ):
            self.run("sacctmgr", "-i", *words.split())

    def _start_controller_and_nodes(self, ports: Ports) -> None:
        controller = self._daemon("slurmctld", "slurmctld", "-D")
        nodes = [self._daemon(f"slurmd-{n}", "slurmd", "-D", "-N", n) for n in NODES]
        # SLURM's commands wait for seconds when nobody listens yet.
        listens = functools.partial(is_listening, ports.slurmctld)
        wait_until(listens, "slurmctld listens", START_TIMEOUT_S, [controller])
        wait_until(self.is_idle, "all nodes idle", START_TIMEOUT_S, [controller, *nodes])
