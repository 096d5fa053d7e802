"""Who gets messages in tests: a mail server that wants a password, and an HTTP server that keeps what is posted."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, NamedTuple, TypeVar

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

T = TypeVar("T")


class Kept(Generic[T]):
    """What came, for a thread that waits for it."""

    def __init__(self) -> None:
        self._all: list[T] = []
        self._came = threading.Condition()

    def add(self, each: T) -> None:
        """Something came."""
        with self._came:
            self._all.append(each)
            self._came.notify_all()

    def all(self) -> list[T]:
        """What came so far."""
        with self._came:
            return list(self._all)

    def wait(self, wanted: Callable[[T], bool], timeout_s: float, said: Callable[[], str] = str) -> T:
        """The first that is wanted, also of what came before. Raises AssertionError that tells what came instead."""
        deadline = time.monotonic() + timeout_s
        with self._came:
            while True:
                for each in self._all:
                    if wanted(each):
                        return each
                if not self._came.wait(max(0.0, deadline - time.monotonic())):
                    msg = f"not within {timeout_s} s; what came: {self._all}\n{said()}"
                    raise AssertionError(msg)


class Mail(NamedTuple):
    """A mail, and who sent it to whom, as the server was told."""

    at: float
    sender: str
    receivers: list[str]
    message: EmailMessage

    @property
    def text(self) -> str:
        """Its plain text."""
        body = self.message.get_body(("plain",))
        assert body is not None, "it has no plain text"
        return str(body.get_content())


class MailServer:
    """A mail server on loopback that takes mails from who knows the password, and keeps them."""

    def __init__(self, user: str, password: str) -> None:
        self.mails: Kept[Mail] = Kept()
        self._login = (user.encode(), password.encode())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def _session(self) -> SMTP:
        with warnings.catch_warnings():  # of a password without TLS, which never leaves this machine
            warnings.simplefilter("ignore", UserWarning)
            return SMTP(
                self,
                loop=self._loop,
                authenticator=self._authenticate,
                auth_required=True,
                auth_require_tls=False,
                auth_exclude_mechanism=["LOGIN"],  # its prompts are others than Alertmanager knows
            )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        known = isinstance(data, LoginPassword) and (data.login, data.password) == self._login
        return AuthResult(success=known, handled=False)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a mail; the name is the library's."""
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.mails.add(Mail(time.monotonic(), str(envelope.mail_from), list(envelope.rcpt_tos), message))
        return "250 kept"

    def start(self) -> str:
        """Listen; the address, host:port."""
        self._thread.start()
        listening = self._loop.create_server(self._session, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Listen no more."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Post(NamedTuple):
    """What was posted."""

    at: float
    path: str
    authorization: str
    json: Any


class HttpReceiver:
    """An HTTP server on loopback that keeps what is posted."""

    def __init__(self) -> None:
        self.posts: Kept[Post] = Kept()
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                said = self.headers.get("Authorization", "")
                posts.add(Post(time.monotonic(), self.path, said, json.loads(body)))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
