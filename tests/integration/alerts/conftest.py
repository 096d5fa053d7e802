"""Where the programs of Prometheus and Alertmanager are, or why a test has to be left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pointsman.infra.dev import real_parts
from tests.conftest import lack
from tests.support.receivers import HttpReceiver, MailServer


@pytest.fixture
def program() -> Callable[[str], Path]:
    """A program by its name; the test is skipped where it cannot be had."""

    def find(name: str) -> Path:
        try:
            return real_parts.program(name)
        except real_parts.MissingPartError as reason:
            lack(str(reason))

    return find


@pytest.fixture
def monitors() -> None:
    """Both servers can be had."""
    try:
        real_parts.program("prometheus")
        real_parts.program("alertmanager")
    except real_parts.MissingPartError as reason:
        lack(str(reason))


@pytest.fixture
def mail() -> Iterator[tuple[MailServer, str]]:
    """A mail server that runs, and its address; user `pointsman`, password `mail-secret`."""
    server = MailServer("pointsman", "mail-secret")
    address = server.start()
    yield server, address
    server.stop()


@pytest.fixture
def web() -> Iterator[HttpReceiver]:
    """Takes what goes to Slack, at /slack, and to the webhook, at /alerts."""
    receiver = HttpReceiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def secrets(tmp_path: Path, web: HttpReceiver) -> Path:
    """The three files that Alertmanager reads whenever it sends."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "smtp-password").write_text("mail-secret")  # 0.25 takes a line end for a part of it
    (folder / "slack-url").write_text(f"{web.url}/slack\n")
    (folder / "webhook-token").write_text("token-secret\n")
    return folder
