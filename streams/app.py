"""The Faust app of a worker: its settings, and nothing that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import faust

from pointsman.streams import reading
from pointsman.streams.settings import Settings
from pointsman.streams.topics import control_group

METADATA_MAX_AGE_MS: Final = 10_000


def create_app(settings: Settings, servers: str, *, embedded: bool, partitions: int) -> faust.App:
    """A Faust app for the control plane; lanes run in it as services. Decision data never passes through it."""
    reading.install(settings.batch_inflated_bytes_max)  # its consumers are Faust's own
    datadir = Path(settings.data_dir) / "faust"
    datadir.mkdir(parents=True, exist_ok=True)
    return faust.App(
        control_group(settings),
        broker=[f"kafka://{server}" for server in servers.split(",")],
        store="memory://",
        datadir=str(datadir),
        web_enabled=False,
        autodiscover=False,
        topic_partitions=partitions,
        topic_replication_factor=settings.replication,
        # The embedded broker knows no CreateTopics; it makes a topic when it is first asked for.
        topic_allow_declare=not embedded,
        topic_disable_leader=True,
        stream_wait_empty=False,
        # A broker that goes while topics are asked for leaves the app without partitions until the client asks again.
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 6000,
    )
