"""A PostgreSQL server of its own for the tests of a session, on a free port of the loopback interface."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SECRET = "s3cr3t/p@ss"


class Server:
    def __init__(self, port: int, run: Callable[[str], None]) -> None:
        self.port = port
        self.run = run  # SQL as the superuser

    def uri(self, user: str = "reader", password: str = "${CODEDEV_TEST_PASSWORD}") -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/postgres"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    pytest.importorskip("adbc_driver_postgresql")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(name) for name in [shutil.which("initdb")] if name]
    if not found:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    programs = found[-1].parent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # which PostgreSQL refuses to run as
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def call(*command: str | Path, **options: Any) -> None:
        subprocess.run([*as_user, *map(str, command)], check=True, cwd=folder, stdout=subprocess.DEVNULL, **options)

    def run(sql: str) -> None:
        command = [programs / "psql", "-h", folder, "-p", str(port), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-q"]
        call(*command, input=sql, text=True, stderr=subprocess.PIPE)

    data = folder / "data"
    call(programs / "initdb", "-D", data, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    call(programs / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
    try:
        run(f"CREATE ROLE reader LOGIN PASSWORD '{SECRET}';")
        yield Server(port, run)
    finally:
        call(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)
