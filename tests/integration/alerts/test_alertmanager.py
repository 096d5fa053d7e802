"""A real Alertmanager with the configuration that ships: who hears of which level, in which words, and who does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pointsman.streams.alerts import everything
from tests.support.alerts import ALERTMANAGER, run
from tests.support.monitors import Alertmanager
from tests.support.receivers import HttpReceiver, MailServer, Post
from tests.support.sources import text

SOON_S = 30.0
"""The waits below are a second each; a loaded machine takes its time."""


class Office(NamedTuple):
    """An Alertmanager and everybody whom it writes to."""

    alertmanager: Alertmanager
    mail: MailServer
    web: HttpReceiver

    def post(self, name: str, severity: str, *, over: bool = False, now: bool = False, **labels: str) -> None:
        """An alert, as Prometheus reports it each time it looks; an old one is told at once, one of `now` waits."""
        at = datetime.now(UTC)
        end = at - timedelta(seconds=1) if over else at + timedelta(minutes=5)
        alert: dict[str, Any] = {
            "labels": {"alertname": name, "severity": severity, **labels},
            "annotations": {
                "summary": f"{name} rings",
                "description": "of 3 ms",
                "runbook_url": "docs/x.md#y",
            },
            "startsAt": at.isoformat() if now else "2020-01-02T03:04:05Z",
            "endsAt": end.isoformat(),
        }
        self.alertmanager.post([alert])

    def heard(self, path: str, name: str, status: str = "firing") -> Post:
        """What went to Slack or to the webhook about an alert."""

        def about(post: Post) -> bool:
            words = str(post.json)
            state = post.json.get("status") or ("resolved" if "RESOLVED" in words else "firing")
            return post.path == path and name in words and state == status

        return self.web.posts.wait(about, SOON_S, self.alertmanager.log)

    def names(self, path: str) -> set[str]:
        """The alerts that went there so far."""
        posts = [str(post.json) for post in self.web.posts.all() if post.path == path]
        return {each for post in posts for each in re.findall(r"Alert[A-Z]\w*", post)}


@pytest.fixture
def office(
    monitors: None, tmp_path: Path, mail: tuple[MailServer, str], web: HttpReceiver, secrets: Path
) -> Iterator[Office]:
    """With waits of a second in the place of minutes; all else is what ships."""
    server, address = mail
    options = {"smtp": address, "smtp-user": "pointsman", "mail-from": "pointsman@example.org"}
    options |= {"mail-to": "on-call@example.org", "slack-channel": "#alarms", "webhook": f"{web.url}/alerts"}
    for path, content in everything([], {**options, "secrets": str(secrets)}).items():
        file = tmp_path / "written" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", content))
    alertmanager = Alertmanager(tmp_path / "written", tmp_path / "alertmanager")
    yield Office(alertmanager, server, web)
    alertmanager.stop()


def test_the_configuration_is_valid(program: Callable[[str], Path]) -> None:
    checked = run(program("amtool"), "check-config", ALERTMANAGER / "alertmanager.yml")
    assert checked.code == 0, checked.out
    for found in ("1 templates", "3 receivers", "5 inhibit rules", "global config", "route"):
        assert found in checked.out


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["severity=critical"], "critical"),
        (["severity=warning"], "warning"),
        (["severity=info"], "info"),
        (["severity=page"], "warning"),
        (["alertname=Foreign"], "warning"),
    ],
)
def test_each_level_has_its_receivers(
    program: Callable[[str], Path], labels: list[str], receiver: str
) -> None:
    file = ALERTMANAGER / "alertmanager.yml"
    asked = run(program("amtool"), "config", "routes", "test", f"--config.file={file}", *labels)
    assert (asked.code, asked.out.splitlines()[0]) == (0, receiver)


def test_a_broken_configuration_is_seen(program: Callable[[str], Path], tmp_path: Path) -> None:
    whole = text(ALERTMANAGER / "alertmanager.yml")
    for number, (old, new) in enumerate(
        [
            ("receiver: critical", "receiver: nobody"),
            ("severity = info", "severity info"),
            ("localhost:25", "localhost"),
        ]
    ):
        assert old in whole
        folder = tmp_path / str(number)
        (folder / "templates").mkdir(parents=True)
        (folder / "templates" / "pointsman.tmpl").write_text(
            text(ALERTMANAGER / "templates" / "pointsman.tmpl")
        )
        (folder / "alertmanager.yml").write_text(whole.replace(old, new))
        assert run(program("amtool"), "check-config", folder / "alertmanager.yml").code != 0, new


def test_no_secret_stands_in_the_file() -> None:
    whole = text(ALERTMANAGER / "alertmanager.yml")
    assert not re.search(
        r"^\s*(smtp_auth_password|auth_password|api_url|credentials|bearer_token|password):",
        whole,
        re.MULTILINE,
    )
    assert "hooks.slack.com" not in whole


def test_levels_reach_whom_they_should_and_nobody_else(office: Office) -> None:
    office.post("AlertInfo", "info")
    office.post("AlertWarning", "warning", agent="small")
    office.post("AlertCritical", "critical", agent="other")
    office.post("AlertForeign", "strange")

    mail = office.mail.mails.wait(
        lambda mail: "AlertCritical" in mail.message["Subject"], SOON_S, office.alertmanager.log
    )
    for name in ("AlertInfo", "AlertWarning", "AlertCritical", "AlertForeign"):
        office.heard("/alerts", name)
    for name in ("AlertWarning", "AlertCritical", "AlertForeign"):
        office.heard("/slack", name)

    assert (mail.sender, mail.receivers) == ("pointsman@example.org", ["on-call@example.org"])
    assert mail.message["Subject"] == "[CRITICAL] AlertCritical of other"
    assert mail.message["To"] == "on-call@example.org"
    assert (
        "AlertCritical rings\nof 3 ms\nSince 2020-01-02 03:04:05 UTC. What to do: docs/x.md#y"
        in mail.text.replace("\r\n", "\n")
    )
    assert len(office.mail.mails.all()) == 1
    assert office.names("/slack") == {"AlertWarning", "AlertCritical", "AlertForeign"}
    assert office.names("/alerts") == {"AlertInfo", "AlertWarning", "AlertCritical", "AlertForeign"}


def test_slack_and_webhook_get_what_they_expect(office: Office) -> None:
    office.post("AlertA", "critical", now=True, agent="small", arm="candidate")
    office.post("AlertA", "critical", now=True, agent="small", arm="control")
    slack = office.heard("/slack", "AlertA").json
    webhook = office.heard("/alerts", "AlertA")
    assert slack["channel"] == "#alarms"
    (attachment,) = slack["attachments"]
    assert attachment["title"] == attachment["fallback"] == "[CRITICAL] AlertA of small (2 times)"
    assert attachment["color"] == "danger"
    assert attachment["text"].count("AlertA rings\nof 3 ms\n") == 2
    assert webhook.authorization == "Bearer token-secret"
    assert webhook.json["version"] == "4"
    assert webhook.json["commonLabels"] == {"alertname": "AlertA", "agent": "small", "severity": "critical"}
    assert {each["labels"]["arm"] for each in webhook.json["alerts"]} == {"candidate", "control"}


def test_what_is_over_is_told_to_all_who_heard_of_it(office: Office) -> None:
    office.post("AlertA", "critical", agent="small")
    office.heard("/alerts", "AlertA")
    office.post("AlertA", "critical", agent="small", over=True)
    mail = office.mail.mails.wait(
        lambda mail: mail.message["Subject"] == "[RESOLVED] AlertA of small", SOON_S, office.alertmanager.log
    )
    assert "Over: AlertA rings" in mail.text
    (attachment,) = office.heard("/slack", "AlertA", "resolved").json["attachments"]
    assert attachment["color"] == "good"
    assert office.heard("/alerts", "AlertA", "resolved").json["alerts"][0]["status"] == "resolved"


INHIBITED = [
    (("AlertA", "critical", {"agent": "small"}), ("AlertB", "warning", {"agent": "small"})),
    (
        ("PointsmanDatabaseDown", "critical", {"instance": "a"}),
        ("PointsmanLaneUnhealthy", "critical", {"lane": "sink"}),
    ),
    (
        ("PointsmanLaneMissing", "critical", {"lane": "other"}),
        ("PointsmanLagLong", "critical", {"lane": "other"}),
    ),
    (("PointsmanErrorBudgetFast", "critical", {}), ("PointsmanErrorBudgetSlow", "warning", {})),
]
HEARD = [
    ("AlertC", "warning", {"agent": "other"}),  # another agent
    ("AlertD", "warning", {}),  # of no agent: that of an agent says nothing of it
    (
        "PointsmanLaneUnhealthy",
        "critical",
        {"lane": "decisions", "instance": "b"},
    ),  # no database is asked there
]


def test_the_lesser_of_two_is_silent_and_no_other(office: Office) -> None:
    for source, _ in INHIBITED:
        office.post(source[0], source[1], **source[2])
    for name, severity, labels in [target for _, target in INHIBITED] + HEARD:
        office.post(name, severity, **labels)
    states = {
        (each["labels"]["alertname"], each["labels"].get("lane"), each["labels"].get("agent")): each["status"]
        for each in _settled(office, len(INHIBITED) * 2 + len(HEARD))
    }

    def state(name: str, labels: dict[str, str]) -> str:
        return str(states[name, labels.get("lane"), labels.get("agent")]["state"])

    assert {name: state(name, labels) for _, (name, _, labels) in INHIBITED} == {
        name: "suppressed" for _, (name, _, _) in INHIBITED
    }
    assert {state(name, labels) for (name, _, labels), _ in INHIBITED} == {"active"}
    assert {state(name, labels) for name, _, labels in HEARD} == {"active"}


def _settled(office: Office, count: int) -> list[dict[str, Any]]:
    """All alerts, once the last of them was told, and so each was looked at by the rules of inhibition."""
    office.heard("/alerts", "AlertD")
    office.heard("/slack", "AlertC")
    found = office.alertmanager.alerts()
    assert len(found) == count
    return found
