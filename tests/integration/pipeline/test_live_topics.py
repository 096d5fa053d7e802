"""The topics of the live figures' tables, on a real broker."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka.admin import AdminClient, ConfigResource

from pointsman.streams.app import create_app
from pointsman.streams.live import Live
from pointsman.streams.settings import load
from tests.support.kafka import Kafka


async def test_tables_have_their_topics_shown_by_the_broker_with_the_summaries_partitions(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    settings = load({"group": f"{topic_prefix}g", "data_dir": str(tmp_path)}, {}).settings
    app = create_app(settings, kafka.bootstrap, embedded=False, partitions=6)
    live = Live(app, "summaries", ["a"])

    for _ in range(2):  # the second worker finds them
        await live.declare(kafka.bootstrap, 1)

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    shown = admin.list_topics(timeout=20).topics
    names = [f"{settings.group}-control-live-{table}-changelog" for table in ("minutes", "hours")]
    assert [len(shown[name].partitions) for name in names] == [6, 6]
    for name, kept_ms in zip(names, (62 * 60_000, 25 * 3_600_000), strict=True):
        resource = ConfigResource("topic", name)
        config = admin.describe_configs([resource])[resource].result(20)
        assert set(config["cleanup.policy"].value.split(",")) == {"compact", "delete"}
        assert int(config["retention.ms"].value) == kept_ms
