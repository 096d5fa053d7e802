"""The history of a git repository as `Commit`s, oldest first, streamed from ``git log``.

Line counts are git's own: docstring lines are in them, which the JSON Lines files know to leave out.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from msgspec import Struct

from pointsman.models.agents.documentation_keeper import paths
from pointsman.models.agents.documentation_keeper.history import FILES_MAX, Commit, HistoryError, request
from pointsman.models.agents.documentation_keeper.measure import NEEDED, NOT_NEEDED
from pointsman.models.agents.documentation_keeper.request import LINES_MAX, ChangedFile, Status

_MARK: Final = b"\x1e\x1d\x1e"
"""Begins a commit. Control characters that no path carries; all else is told apart by position."""
_FIELDS: Final = ("%H", "%at", "%ct", "%ae", "%an", "%s", "%b")
_CHUNK: Final = 1 << 16
_KEPT_MAX: Final = 10 * FILES_MAX
"""Files of one commit held while it is read: documentation goes first, `FILES_MAX` others are kept of the rest."""
_LABEL_CLASSES: Final = frozenset({paths.README, paths.DOCS})
_BOT: Final = re.compile(
    r"\[bot\]|\bbot@|dependabot|renovate|pre-commit-ci|github-?actions|greenkeeper|pyup-bot|mergify|snyk-bot|\bbot$",
    re.IGNORECASE,
)
_REVERTS: Final = re.compile(rb"This reverts commit ([0-9a-f]{7,64})")
_COUNTED: Final = re.compile(rb"([0-9]{1,18}|-)\t([0-9]{1,18}|-)\t(.*)", re.DOTALL)
"""Lines added, lines removed, path; a binary file has no lines."""
_SECONDS: Final = re.compile(rb"-?[0-9]{1,18}")
_SHA: Final = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_TRAILER: Final = re.compile(rb"^[A-Z][A-Za-z-]+(-by|-[Ii]d|-on): ")


class _Entry(Struct):
    """One commit as git prints it."""

    fields: list[bytes]
    files: dict[bytes, ChangedFile]
    names: list[bytes]


def read_git(repository: Path, *, newest: int | None = None, name: str | None = None) -> Iterator[Commit]:
    """The commits of HEAD that are no merges, oldest first; with ``newest`` only that many.

    ``name`` is the repository's in requests (default: its folder's). An unborn HEAD has none. A shallow
    clone has those that are there. Raises `HistoryError` where git fails.
    """
    # A folder's name need not be text; a request's repository is.
    name = name or _text(os.fsencode(repository.resolve().name)) or "repository"
    if not _has_commits(repository):
        return
    land, landed_at = _landings(repository)
    documented = _documented_landings(repository, land)
    limit = () if newest is None else (f"--max-count={newest}",)
    log = _log(repository, "--raw", "--numstat", "--find-renames", "--reverse", *limit)
    for entry in parse(log):
        yield _commit(entry, name, land, landed_at, documented)


def parse(tokens: Iterable[bytes]) -> Iterator[_Entry]:
    """Commits from the NUL-separated tokens of ``git log -z --raw --numstat`` in our format.

    Raises `HistoryError` for what git does not print, as where its output was cut.
    """
    entry: _Entry | None = None
    stream = iter(tokens)
    for raw in stream:
        token = raw.lstrip(b"\n")
        if token == _MARK:
            if entry is not None:
                yield entry
            entry = _Entry([_next(stream) for _ in _FIELDS], {}, [])
            if not _SHA.fullmatch(entry.fields[0]):
                msg = f"no commit of a git log: {_text(entry.fields[0][:100])!r}"
                raise HistoryError(msg)
        elif token and entry is not None:
            _read_file(token, stream, entry)
    if entry is not None:
        yield entry


def _read_file(token: bytes, stream: Iterator[bytes], entry: _Entry) -> None:
    """One file: ``:modes ids status`` and its path or two, or ``added TAB removed TAB path``."""
    if token.startswith(b":"):
        status = token.rpartition(b" ")[2][:1]
        previous = _next_path(stream) if status in (b"R", b"C") else None
        path = _next_path(stream)
        entry.names.append(path)
        if previous is not None:
            entry.names.append(previous)
        if len(entry.files) < _KEPT_MAX:
            entry.files[path] = _changed(path, status, previous)
        return
    counted = _COUNTED.fullmatch(token)
    if counted is None:
        msg = f"no file of a git log: {_text(token[:100])!r}"
        raise HistoryError(msg)
    added, removed, path = counted.groups()
    if not path:
        _next_path(stream)
        path = _next_path(stream)
    file = entry.files.get(path)
    if file is not None:
        entry.files[path] = _with_lines(file, added, removed)


def _next(stream: Iterator[bytes]) -> bytes:
    token = next(stream, None)
    if token is None:
        msg = "the git log ends in the middle of a commit"
        raise HistoryError(msg)
    return token


def _next_path(stream: Iterator[bytes]) -> bytes:
    path = _next(stream)
    if not path:
        msg = "a file of a git log has no name"
        raise HistoryError(msg)
    return path


def _changed(path: bytes, status: bytes, previous: bytes | None) -> ChangedFile:
    known = cast("Status", status.decode() if status and status in b"AMDRCT" else "M")
    return ChangedFile(
        path=_text(path)[:1000], status=known, previous=None if previous is None else _text(previous)[:1000]
    )


def _with_lines(file: ChangedFile, added: bytes, removed: bytes) -> ChangedFile:
    binary = b"-" in (added, removed)
    return ChangedFile(
        path=file.path,
        added=0 if binary else min(int(added), LINES_MAX),
        removed=0 if binary else min(int(removed), LINES_MAX),
        status=file.status,
        previous=file.previous,
        binary=binary,
    )


def _commit(
    entry: _Entry, name: str, land: dict[bytes, bytes], landed_at: dict[bytes, int], documented: set[bytes]
) -> Commit:
    sha, authored, committed, email, person, subject, body = entry.fields
    landing = land.get(sha, sha)
    kinds = [paths.path_class(_text(path)).kind for path in entry.names]
    author = hashlib.blake2b(email.lower(), digest_size=4, key=name.encode()[:64]).hexdigest()
    reverts = _REVERTS.search(body)
    return Commit(
        sha=sha.decode(),
        repository=name,
        land=landing.decode(),
        committed_at=_time(committed),
        landed_at=max(_time(committed), _moment(landed_at.get(landing, 0))),
        documents=not _LABEL_CLASSES.isdisjoint(kinds),
        in_domain=paths.SOURCE in kinds and not _BOT.search(_text(person)) and not _BOT.search(_text(email)),
        author=author,
        request=request(
            name,
            _text(subject),
            entry.files.values(),
            body_lines=_body_lines(body),
            author=author,
            authored_at=_time(authored),
        ),
        truth=NEEDED if landing in documented else NOT_NEEDED,
        files_total=len(entry.names),
        reverts=reverts[1].decode() if reverts else "",
    )


def _body_lines(body: bytes) -> int:
    """Lines of the message body that say something: neither empty nor trailers."""
    return sum(1 for line in body.splitlines() if line.strip() and not _TRAILER.match(line))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _time(raw: bytes) -> datetime:
    return _moment(_seconds(raw))


def _seconds(raw: bytes) -> int:
    """A time as git prints it: nothing where the commit's own is damaged."""
    return int(raw) if _SECONDS.fullmatch(raw) else 0


def _moment(seconds: int) -> datetime:
    """Broken clocks have written negative years and the year 10000 into histories: kept within the calendar."""
    return datetime.fromtimestamp(min(max(seconds, 0), 253_402_300_799), UTC)


def _has_commits(repository: Path) -> bool:
    try:
        done = subprocess.run(
            _command(repository, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"),
            env=_environment(),
            capture_output=True,
            check=False,
        )
    except OSError as error:
        msg = f"git cannot be run ({error.strerror}): install it"
        raise HistoryError(msg) from error
    if done.returncode and done.stderr.strip():
        msg = f"{repository}: {_text(done.stderr).strip().splitlines()[-1]}"
        raise HistoryError(msg)
    return done.returncode == 0


def _landings(repository: Path) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
    """Each commit's landing (the first main-line commit that reaches it), and the landings' times."""
    main = [
        line.split(b" ") for line in _lines(repository, "log", "--first-parent", "--format=%H %ct", "HEAD")
    ]
    parents = {}
    for line in _lines(repository, "rev-list", "--parents", "HEAD"):
        sha, *rest = line.split(b" ")
        parents[sha] = rest
    land: dict[bytes, bytes] = {}
    for commit, _ in reversed(main):
        todo = [commit]
        while todo:
            sha = todo.pop()
            if sha not in land and sha in parents:
                land[sha] = commit
                todo.extend(parents[sha])
    return land, {commit: _seconds(when) for commit, when in main}


def _documented_landings(repository: Path, land: dict[bytes, bytes]) -> set[bytes]:
    """The landings of which some commit touches a README or the docs; names only, so it is quick."""
    documented = set()
    for entry in parse(_log(repository, "--raw", "--no-renames")):
        if any(paths.path_class(_text(path)).kind in _LABEL_CLASSES for path in entry.names):
            documented.add(land.get(entry.fields[0], entry.fields[0]))
    return documented


def _log(repository: Path, *options: str) -> Iterator[bytes]:
    form = "--format=%x00%x1e%x1d%x1e%x00" + "%x00".join(_FIELDS) + "%x00"
    plain = (
        "--no-merges",
        "--date-order",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-show-signature",
    )
    return _tokens(_command(repository, "log", "-z", *plain, *options, form, "HEAD", "--"), b"\0")


def _lines(repository: Path, *arguments: str) -> Iterator[bytes]:
    return (line for line in _tokens(_command(repository, *arguments, "--"), b"\n") if line)


def _tokens(command: Sequence[str], separator: bytes) -> Iterator[bytes]:
    """A command's output, cut at the separator, as it comes. Raises `HistoryError` if it fails."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None
        finished = False
        try:
            rest = b""
            while chunk := process.stdout.read(_CHUNK):
                *whole, rest = (rest + chunk).split(separator)
                yield from whole
            if rest:
                yield rest
            finished = True
        finally:
            process.stdout.close()
            if not finished:
                process.kill()  # nobody reads on
            code = process.wait()
        if code:
            errors.seek(0)
            said = _text(errors.read(4096)).strip().splitlines()
            msg = f"{' '.join(command[:5])} failed: {said[-1] if said else f'exit code {code}'}"
            raise HistoryError(msg)


def _command(repository: Path, *arguments: str) -> list[str]:
    settings = ("log.showRoot=true", "log.showSignature=false", "diff.renames=true", "core.fsmonitor=false")
    return ["git", "-C", str(repository), *(part for s in settings for part in ("-c", s)), *arguments]


def _environment() -> dict[str, str]:
    """Ours, without what would point git elsewhere, let it ask, or let it fetch."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return kept | {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
