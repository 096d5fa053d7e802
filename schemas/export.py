"""The contracts for everybody else: one JSON Schema each and one AsyncAPI document, generated from the classes.

``python -m pointsman.schemas.export DIR`` writes them.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

import msgspec

from pointsman.schemas import dead_letter, topics
from pointsman.schemas.control import Flag
from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Escalation, Outcome, ShadowAnswer
from pointsman.schemas.request import DecisionRequest
from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN, Kept, Redrive, Redriven
from pointsman.schemas.state import StateEntry
from pointsman.schemas.summary import Summary

CONTRACTS: Final[tuple[type[msgspec.Struct], ...]] = (
    DecisionRequest, Outcome, ShadowAnswer, Escalation, Feedback, Flag, Summary, Kept, Redriven, Redrive,
    StateEntry,
)  # fmt: skip
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DEAD_LETTER: Final = "DeadLetter"
WAITING: Final = "WaitingRequest"
"""Message of the delay topics: a request as received, and what was kept of it in a header."""
ASYNCAPI: Final = "asyncapi.json"
VERSION: Final = "1"
"""Of the contracts as a whole: rises when a field is added."""

_TRACE: Final = {
    "type": "object",
    "description": "W3C trace context, carried on from the request with a new span.",
    "properties": {
        "traceparent": {
            "type": "string",
            "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$",
        },
        "tracestate": {"type": "string"},
    },
}
_WAITING_HEADERS: Final = {
    "type": "object",
    "description": "The sender's own headers, and what was kept.",
    "properties": {
        HEADER_KEPT: {"type": "string", "description": "`Kept` as JSON."},
        HEADER_REDRIVEN: {"type": "string", "description": "`Redriven` as JSON, where it was sent again."},
    },
    "required": [HEADER_KEPT],
}
_TRACED: Final = frozenset({"DecisionRequest", "Outcome", "ShadowAnswer", "Escalation"})
_RECEIVED: Final = frozenset({topics.REQUESTS.name, topics.FEEDBACK.name})
"""What producers write and Pointsman reads; the others it writes."""


def json_schema(type_: type[msgspec.Struct], title: str = "") -> dict[str, Any]:
    """The JSON Schema of one contract, with the texts of its fields."""
    schema = msgspec.json.schema(type_)
    schema["$defs"] = _described(schema["$defs"], _structs(type_))
    return {"$schema": DIALECT, "title": title or type_.__name__, **schema}


def dead_letter_headers() -> dict[str, Any]:
    """The JSON Schema of a dead letter's headers, each decoded as UTF-8."""
    reasons = [{"const": reason, "description": text} for reason, text in dead_letter.REASONS.items()]
    number = {"type": "string", "pattern": "^[0-9]+$"}
    numbers = {dead_letter.HEADER_PARTITION, dead_letter.HEADER_OFFSET, dead_letter.HEADER_ATTEMPT}
    properties: dict[str, Any] = {
        name: {**(number if name in numbers else {"type": "string"}), "description": text}
        for name, text in dead_letter.HEADERS.items()
    }
    properties[dead_letter.HEADER_REASON]["oneOf"] = reasons
    properties |= {
        name: {"type": "string", "description": about} for name, about in dead_letter.OPTIONAL.items()
    }
    return {
        "$schema": DIALECT,
        "title": "Headers of a dead letter",
        "type": "object",
        "properties": properties,
        "required": list(dead_letter.HEADERS),
    }


def asyncapi() -> dict[str, Any]:
    """One AsyncAPI 3.0 document with every topic: its key, its contract, its headers."""
    _, components = msgspec.json.schema_components(CONTRACTS, ref_template="#/components/schemas/{name}")
    structs = {name: each for type_ in CONTRACTS for name, each in _structs(type_).items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Pointsman",
            "version": VERSION,
            "description": "Decision requests in, outcomes out. Consumers read `read_committed` and ignore fields that "
            "they do not know; contracts change by adding only.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in topics.ALL},
        "operations": {f"{_action(topic)}-{topic.name}": _operation(topic) for topic in topics.ALL},
        "components": {
            "messages": {_message_name(topic): _message(topic) for topic in topics.ALL},
            "schemas": {
                **_described(components, structs),
                "TraceHeaders": _TRACE,
                "WaitingHeaders": _WAITING_HEADERS,
                "DeadLetterHeaders": {k: v for k, v in dead_letter_headers().items() if k != "$schema"},
            },
        },
    }


def documents() -> dict[str, dict[str, Any]]:
    """File name to content, for all that is exported."""
    found = {f"{type_.__name__}.json": json_schema(type_) for type_ in CONTRACTS}
    found[f"{DEAD_LETTER}.headers.json"] = dead_letter_headers()
    found[ASYNCAPI] = asyncapi()
    return found


def text(document: dict[str, Any]) -> str:
    """A document as its file holds it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path, found: dict[str, dict[str, Any]]) -> list[Path]:
    """Write documents into a folder, which is made where it is missing; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in found.items():
        (folder / name).write_text(text(document), encoding="utf-8")
    return [folder / name for name in found]


def _action(topic: topics.Topic) -> str:
    return "receive" if topic.name in _RECEIVED else "send"


def _message_name(topic: topics.Topic) -> str:
    if topic is topics.DEAD_LETTERS:
        return DEAD_LETTER
    return WAITING if _waiting(topic) else topic.carries


def _waiting(topic: topics.Topic) -> bool:
    return topic is not topics.REQUESTS and topic.carries == topics.REQUESTS.carries


def _channel(topic: topics.Topic) -> dict[str, Any]:
    name = _message_name(topic)
    configuration: dict[str, Any] = {"cleanup.policy": [topic.cleanup]}
    if topic.cleanup == "delete":
        configuration["retention.ms"] = topic.retention_ms
    kafka: dict[str, Any] = {
        "topic": topic.name,
        "topicConfiguration": configuration,
        "bindingVersion": "0.5.0",
    }
    if topic.partitions is not None:
        kafka["partitions"] = topic.partitions
    return {
        "address": topic.name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": kafka},
    }


def _operation(topic: topics.Topic) -> dict[str, Any]:
    return {"action": _action(topic), "channel": {"$ref": f"#/channels/{topic.name}"}}


def _message(topic: topics.Topic) -> dict[str, Any]:
    name = _message_name(topic)
    key = {"type": "string", "description": topic.key}
    message: dict[str, Any] = {"name": name, "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}}}
    if topic is topics.DEAD_LETTERS:
        message["summary"] = (
            "The value as received; its hash, length and place as JSON where it was too large."
        )
        message["contentType"] = "application/octet-stream"
        message["headers"] = {"$ref": "#/components/schemas/DeadLetterHeaders"}
        return message
    message["payload"] = {"$ref": f"#/components/schemas/{topic.carries}"}
    if _waiting(topic):
        message["summary"] = "A request that is tried again, as received."
        message["headers"] = {"$ref": "#/components/schemas/WaitingHeaders"}
    if name in _TRACED:
        message["headers"] = {"$ref": "#/components/schemas/TraceHeaders"}
    return message


def _structs(type_: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """The struct and those that its fields hold, by name."""
    found: dict[str, type[msgspec.Struct]] = {}
    waiting: list[Any] = [msgspec.inspect.type_info(type_)]
    while waiting:
        info = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls.__name__ in found:
                continue
            found[info.cls.__name__] = info.cls
            waiting += [field.type for field in info.fields]
        elif isinstance(info, msgspec.inspect.Metadata):
            waiting.append(info.type)
        elif isinstance(info, msgspec.inspect.UnionType):
            waiting += info.types
        elif isinstance(info, (msgspec.inspect.ListType, msgspec.inspect.VarTupleType)):
            waiting.append(info.item_type)
        elif isinstance(info, msgspec.inspect.DictType):
            waiting.append(info.value_type)
    return found


def _described(schemas: dict[str, Any], structs: dict[str, type[msgspec.Struct]]) -> dict[str, Any]:
    """The schemas with the text below each field of its class as the field's description."""
    for name, schema in schemas.items():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        for field, about in _field_texts(structs[name]).items():
            schema["properties"][field] = {**schema["properties"][field], "description": about}
    return schemas


def _field_texts(struct: type[msgspec.Struct]) -> dict[str, str]:
    (class_,) = ast.parse(textwrap.dedent(inspect.getsource(struct))).body
    assert isinstance(class_, ast.ClassDef)
    found = {}
    for field, following in zip(class_.body, class_.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            found[field.target.id] = inspect.cleandoc(str(following.value.value))
    return found


def main(arguments: list[str]) -> int:
    """Write all documents into the folder that is named; 2 where none is."""
    if len(arguments) != 1:
        print("usage: python -m pointsman.schemas.export DIR", file=sys.stderr)
        return 2
    for path in write(Path(arguments[0]), documents()):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
