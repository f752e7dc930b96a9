"""Counters over HTTP for Prometheus, read from the recorder's plain integers at scrape time. Not a log."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rust_indicators import Publisher
from shijim_live.events import RingState
from shijim_live.watch.pressure import HIGH_WATER

# Only this machine may scrape unless somebody puts a proxy in front: the page names what is recorded and when.
ADDRESS = "127.0.0.1"


class RecorderMetrics(Collector):
    """Turns the ring's counters into metrics; costs nothing while nobody scrapes."""

    def __init__(
        self,
        publisher: Publisher,
        raw_dir: Path,
        shard: int,
        connections: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
    ) -> None:
        self.publisher = publisher
        self.connections = connections
        self.raw_dir = raw_dir
        self.shard = str(shard)

    def collect(self) -> Iterator[Metric]:
        values = self.publisher.counters()
        blocked_seconds = values["blocked_ns"] / 1_000_000_000
        free_bytes = shutil.disk_usage(self.raw_dir).free
        yield self._counter("shijim_accepted_events", "Events the recorder took", values["accepted"])
        yield self._counter(
            "shijim_durable_events", "Events that are on disk: the only acknowledgement", values["durable"]
        )
        yield self._counter(
            "shijim_missed_events", "Events that readers of the ring were too slow for", values["missed"]
        )
        # Late deliveries fill holes, so this one can fall: a gauge.
        yield self._gauge(
            "shijim_lots_missing", "Lots that volume continuity says were not delivered", values["lots_missing"]
        )
        yield self._counter("shijim_blocked_seconds", "Time callbacks waited for the disk", blocked_seconds)
        yield self._counter(
            "shijim_not_recorded_events", "Events that came while the disk had no space", values["not_recorded"]
        )
        yield self._gauge(
            "shijim_waiting_for_space", "1 while nothing is recorded", values["state"] == RingState.WAITING
        )
        yield self._gauge("shijim_disk_free_bytes", "Free space where the log is written", free_bytes)
        yield from self._ring(values)
        yield from self._groups(values["accepted"])
        yield from self._connections()

    def _ring(self, values: dict[str, int]) -> Iterator[Metric]:
        yield self._gauge("shijim_ring_slots", "Events the ring has room for", values["slots"])
        yield self._gauge("shijim_ring_depth_events", "Events that wait for the disk", values["depth"])
        yield self._gauge("shijim_ring_depth_events_max", "The most that did, in this run", values["depth_max"])
        crossings = CounterMetricFamily(
            "shijim_ring_high_water", "How often the ring rose past that share of its room", labels=["shard", "percent"]
        )
        for percent, counter in HIGH_WATER.items():
            crossings.add_metric([self.shard, str(percent)], values[counter])
        yield crossings

    def _groups(self, accepted: int) -> Iterator[Metric]:
        labels = ["shard", "group"]
        lag = GaugeMetricFamily(
            "shijim_group_lag_events", "Events that no member of the group has claimed", labels=labels
        )
        missed = CounterMetricFamily("shijim_group_missed_events", "Events the group was too slow for", labels=labels)
        abandoned = CounterMetricFamily(
            "shijim_group_abandoned_events",
            "Events claimed by members that died before they had finished",
            labels=labels,
        )
        for name, next_sequence, *counts, _ in self.publisher.groups():
            lag.add_metric([self.shard, name], max(0, accepted + 1 - next_sequence))
            for family, count in zip((missed, abandoned), counts, strict=True):
                family.add_metric([self.shard, name], count)
        yield from (lag, missed, abandoned)

    def _connections(self) -> Iterator[Metric]:
        labels = ["shard", "connection"]
        up = GaugeMetricFamily("shijim_connection_up", "1 while the broker's session is up", labels=labels)
        logins = CounterMetricFamily("shijim_connection_logins", "Logins tried in this run", labels=labels)
        topics = GaugeMetricFamily("shijim_topics", "Topics by where they stand", labels=[*labels, "phase"])
        for one in self.connections():
            place = [self.shard, str(one["number"])]
            up.add_metric(place, one["phase"] == "up")
            logins.add_metric(place, one.get("logins", 0))
            for phase, count in one.get("topics", {}).get("counts", {}).items():
                topics.add_metric([*place, phase], count)
        yield from (up, logins, topics)

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=["shard"])
        family.add_metric([self.shard], value)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["shard"])
        family.add_metric([self.shard], value)
        return family


def serve(metrics: RecorderMetrics, port: int) -> WSGIServer:
    """Serves /metrics in a thread until the server is shut down. OSError when the port is taken."""
    registry = CollectorRegistry()
    registry.register(metrics)
    server, _ = start_http_server(port, addr=ADDRESS, registry=registry)
    return server
