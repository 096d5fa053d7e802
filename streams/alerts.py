"""The files of Prometheus and Alertmanager, filled in: an agent's rules from one template, addresses from options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

RUNBOOKS: Final = "docs/runbooks.md"
"""Where the committed rules say that the runbooks are."""
SECRETS: Final = "/etc/alertmanager/secrets"
"""Where the committed file says that the secrets are."""
_SHIPPED: Final = files("pointsman.infra")
_CALL: Final = re.compile(r"@(bad|all)\((\w+)\)@")
_MARKED: Final = re.compile(
    r"^(?P<key>[ -]*\w+: )(?P<value>.*?)(?P<mark>  # --(?P<option>[a-z-]+))$", re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From where on an agent's figures are an alert, and how much evidence that takes."""

    success: float = 0.75
    satisfaction: float = 3.0
    p95_ms: float = 100.0
    labels: int = 50
    """The number of the first stage of a rollout: with fewer the figure is mostly luck."""
    signals: int = 20
    decisions: int = 20
    """With fewer requests in 5 minutes the slowest one is the p95."""
    quiet: str = "15m"
    """No decision for so long is no traffic; as Prometheus writes durations."""


DEFAULTS: Final = Limits()


def agent_rules(agent: str, limits: Limits = DEFAULTS) -> str:
    """The rule file of an agent: five alerts, whose names begin with its own in camel case."""
    words = {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in asdict(limits).items()
    }
    words |= {"agent": agent, "Agent": camel(agent), "p95_s": f"{limits.p95_ms / 1000:g}"}
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], _read("prometheus/templates/agent.yml"))


def camel(name: str) -> str:
    """`documentation-keeper` as `DocumentationKeeper`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("-"))


def objective_rules() -> str:
    """The rule file of the 99.9 % objective, with what is bad and what is all written out for each window."""
    parts = {name: _read(f"prometheus/templates/{name}.promql").rstrip() for name in ("bad", "all")}

    def written_out(line: str) -> str:
        indent = line[: len(line) - len(line.lstrip())]
        return _CALL.sub(
            lambda call: parts[call[1]].replace("@window@", call[2]).replace("\n", f"\n{indent}"), line
        )

    return "".join(map(written_out, _read("prometheus/templates/objective.yml").splitlines(keepends=True)))


def everything(
    agents: Iterable[str], options: Mapping[str, object], runbooks: str = RUNBOOKS
) -> dict[str, str]:
    """Every file by its path: what both programs need for these agents. Of `options`, those that are there count.

    An option's value is a text, a number, a truth or a list of texts; `secrets` is a folder.
    """
    rules = {f"prometheus/rules/agents/{agent}.yml": agent_rules(agent) for agent in agents}
    rules |= {
        "prometheus/rules/pipeline.yml": _read("prometheus/rules/pipeline.yml"),
        "prometheus/rules/objective.yml": objective_rules(),
    }
    configurations = ("prometheus/prometheus.yml", "alertmanager/alertmanager.yml")
    return {
        **{
            path: text.replace(f"runbook_url: {RUNBOOKS}#", f"runbook_url: {runbooks}#")
            for path, text in rules.items()
        },
        **{path: filled(_read(path), options) for path in configurations},
        "alertmanager/templates/pointsman.tmpl": _read("alertmanager/templates/pointsman.tmpl"),
    }


def filled(text: str, options: Mapping[str, object]) -> str:
    """A configuration with the values of the options at their lines; a line of another option stays as it is.

    Values are written as JSON, which YAML takes.
    """

    def value(line: re.Match[str]) -> str:
        option = line["option"]
        if option not in options:
            return line[0]
        given = options[option]
        if option == "secrets":
            given = f"{str(given).rstrip('/')}/{line['value'].strip(chr(34)).rpartition('/')[2]}"
        return f"{line['key']}{json.dumps(given)}{line['mark']}"

    return _MARKED.sub(value, text)


def _read(path: str) -> str:
    found: Traversable = _SHIPPED
    for part in path.split("/"):
        found /= part
    return found.read_text(encoding="utf-8")
