"""`OutcomeWriter`: outcomes as bytes, from parts that are encoded once for many.

A batch shares agent, flag, versions and clock, and the rules give the same answers again and again; what differs
from request to request is a fifth of the bytes. The contract stays `Outcome`: what is written here equals its
encoding byte for byte, which a test holds true for any content.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple, get_args

import msgspec
from msgspec import UNSET, UnsetType

from pointsman.models.decider import Row
from pointsman.schemas.control import Flag
from pointsman.schemas.latency import bucket
from pointsman.schemas.outcome import Action, Answer, FlagState, History
from pointsman.schemas.retry import Assigned
from pointsman.streams.decisions.known import Known, Served
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.decisions.validate import Accepted
from pointsman.streams.output import Record

_encode = msgspec.json.Encoder().encode

_NULL: Final = b"null"
_ACTIONS: Final = {
    action: b'"action":"%b","needs_review":%b,"fallback_reason":'
    % (action.encode(), b"true" if action == "escalate" else b"false")
    for action in get_args(Action)
}


class Waited(NamedTuple):
    """How long a request waited; the same for all of a batch with the same record time."""

    ms: float
    bucket: int
    part: bytes


class Moment:
    """When outcomes are decided: what all that are written at one time have in common, whatever agents they are of."""

    def __init__(self, now: datetime) -> None:
        """``now``: UTC."""
        self.now = now
        self.part = b',"decided_at":%b,"timings":{"total_ms":' % _encode(now)
        self.unrequested = b',"requested_at":null' + self.part
        self._ms = now.timestamp() * 1000
        self._waited: dict[int, Waited] = {}

    def waited(self, timestamp: int) -> Waited:
        """From a record's time (milliseconds) until now."""
        known = self._waited.get(timestamp)
        if known is None:
            # Old producers write no time (-1), and a clock may run ahead: neither is a latency of years or below 0.
            ms = max(0.0, round(self._ms - timestamp, 3)) if timestamp > 0 else 0.0
            known = self._waited[timestamp] = Waited(ms, bucket(ms), _encode(ms))
        return known


class OutcomeWriter:
    """Writes the outcomes of one agent's part of a batch."""

    def __init__(
        self,
        runtime: Runtime,
        flag: Flag | Assigned | None,
        *,
        features_ms: float,
        model_ms: float | None,
    ) -> None:
        parts = runtime.parts
        self.approval = parts.approval
        self._runtime = runtime
        state = FlagState(
            name=runtime.agent.flag,
            percentage=flag.percentage if flag else 0.0,
            version=flag.version if flag else 0,
        )
        self._agent, self._status = parts.agent, parts.status
        self._versions = b'},"flag":%b%b' % (_encode(state), parts.versions)
        self._features_ms = b',"features_ms":%b' % _encode(features_ms)
        self._model_ms = b',"model_ms":%b' % _encode(model_ms) if model_ms is not None else b""
        self.known = runtime.known.of
        self._named = runtime.named
        self._places: dict[tuple[bool, str, int], bytes] = {}
        self._texts: dict[tuple[str, str], tuple[bytes, bytes]] = {}

    def by_control(self, known: Known) -> Served:
        """What an outcome of the control says of the rules' answer."""
        served = known.control
        if served is None:
            served = known.control = self.serve(known.answer, ml=False, candidate=False)
        return served

    def by_candidate(self, known: Known, fallback: str | None) -> Served:
        """What an outcome of the candidate says of the rules' answer, which it serves for want of the model's."""
        if known.candidate is not None and known.candidate[0] == fallback:
            return known.candidate[1]
        served = self.serve(known.answer, ml=False, candidate=True, fallback=fallback)
        known.candidate = fallback, served
        return served

    def write(
        self,
        accepted: Accepted,
        row: Row,
        *,
        candidate: bool,
        rules: Known,
        ml: Answer | None,
        served: Served,
        moment: Moment,
        waited: Waited,
        history: History | UnsetType = UNSET,
    ) -> bytes:
        """The JSON of an `Outcome`."""
        request, record = accepted.request, accepted.record
        unit, at = request.unit, request.requested_at
        place = self._places.get((candidate, record.topic, record.partition))
        return b"".join(
            (
                b'{"decision_id":',
                _encode(request.id),
                self._agent,
                _NULL if unit is None else _encode(unit),
                served.part,
                rules.encoded,
                b"" if ml is None else b',"ml":' + _encode(ml),
                self._versions,
                _encode(self._named(row)),
                b',"input":',
                request.input,
                moment.unrequested if at is None else b',"requested_at":%b%b' % (_encode(at), moment.part),
                waited.part,
                self._timings(candidate, record) if place is None else place,
                b'%d},"content_hash":"%016x"' % (record.offset, accepted.content_hash),
                b"" if history is UNSET else b',"history":' + _encode(history),
                b',"schema_version":1}',
            )
        )

    def _timings(self, candidate: bool, record: Record) -> bytes:
        """The rest of the timings, and the place but for its offset. A request of the control waited for no model."""
        place = b'{"topic":%b,"partition":%d,"offset":' % (_encode(record.topic), record.partition)
        model = self._model_ms if candidate else b""
        part = b'%b%b},"place":%b' % (self._features_ms, model, place)
        self._places[candidate, record.topic, record.partition] = part
        return part

    def serve(self, answer: Answer, *, ml: bool, candidate: bool, fallback: str | None = None) -> Served:
        """The same of any answer, encoded anew."""
        action = self._runtime.action(answer.confidence)
        texts = self._texts.get((answer.prediction, answer.reason))
        if texts is None:
            texts = _encode(answer.prediction), _encode(answer.reason)
            self._texts[answer.prediction, answer.reason] = texts
        part = b'%b%b"%b","prediction":%b,"confidence":%b,"reason":%b,%b%b,"answers":{"rules":' % (
            self._status,
            b'"ml","arm":' if ml else b'"deterministic","arm":',
            b"candidate" if candidate else b"control",
            texts[0],
            _encode(answer.confidence),
            texts[1],
            _ACTIONS[action],
            _NULL if fallback is None else _encode(fallback),
        )
        return Served(part, action)
