"""The metrics of the node itself and of its sites, whatever their protocols."""

from collections.abc import Callable

from app.observe.counts import QueueSample
from app.observe.metric import BY_REASON, BY_RESULT, SITE, Kind, Metric, Reader, of_each, of_node, of_site, of_site_and


def _of_sample(read: Callable[[QueueSample], float]) -> Reader:
    return lambda counts: (
        ((name,), read(site.queues)) for name, site in list(counts.sites.items()) if site.queues is not None
    )


METRICS = (
    # Connections
    Metric(Kind.GAUGE, "recado_sessions", "Engine.IO sessions on this node.", (), of_node(lambda c: c.sessions())),
    Metric(Kind.GAUGE, "recado_connections", "Connections in a site.", SITE, of_site(lambda s: s.connections)),
    Metric(Kind.COUNTER, "recado_connects", "Attempts to join a site.", BY_RESULT, of_site_and(lambda s: s.connects)),
    Metric(Kind.COUNTER, "recado_closes", "Connections that ended.", BY_REASON, of_site_and(lambda s: s.closes)),
    Metric(
        Kind.COUNTER,
        "recado_transport_closings",
        "Sockets that the transport closed.",
        ("reason",),
        of_each(lambda c: c.transport_closings),
    ),
    Metric(
        Kind.COUNTER,
        "recado_refused",
        "Refused because of a bound of the node.",
        ("reason",),
        of_each(lambda c: c.refused),
    ),
    Metric(
        Kind.COUNTER,
        "recado_passed_requests",
        "Requests for sessions of other nodes.",
        ("result",),
        of_each(lambda c: c.passed_requests),
    ),
    # Sending
    Metric(Kind.COUNTER, "recado_stored", "Entries put in devices' queues.", SITE, of_site(lambda s: s.stored)),
    Metric(Kind.COUNTER, "recado_queue_overflows", "Queues dropped for length.", SITE, of_site(lambda s: s.overflows)),
    Metric(
        Kind.COUNTER,
        "recado_limited",
        "Refused because of a limit of the site.",
        ("site", "limit"),
        of_site_and(lambda s: s.limited),
    ),
    Metric(Kind.COUNTER, "recado_nodes_told", "Nodes handed a message.", SITE, of_site(lambda s: s.nodes_told)),
    # Delivering
    Metric(Kind.COUNTER, "recado_bus_messages", "Messages heard on the bus.", SITE, of_site(lambda s: s.bus_messages)),
    Metric(Kind.COUNTER, "recado_deliveries", "Live messages by device.", SITE, of_site(lambda s: s.deliveries)),
    Metric(Kind.COUNTER, "recado_acks", "Acks applied.", SITE, of_site(lambda s: s.acks)),
    Metric(Kind.COUNTER, "recado_acks_dropped", "Acks given up.", SITE, of_site(lambda s: s.acks_dropped)),
    Metric(Kind.COUNTER, "recado_batches", "Batches written.", SITE, of_site(lambda s: s.batches)),
    Metric(Kind.COUNTER, "recado_replayed", "Messages in batches.", SITE, of_site(lambda s: s.batched)),
    Metric(Kind.COUNTER, "recado_refilled", "Messages written to fill a gap.", SITE, of_site(lambda s: s.refilled)),
    Metric(Kind.COUNTER, "recado_resyncs", "Resyncs sent.", BY_REASON, of_site_and(lambda s: s.resyncs)),
    # Waiting
    Metric(Kind.GAUGE, "recado_devices", "Devices in Redis.", SITE, _of_sample(lambda q: q.devices)),
    Metric(
        Kind.GAUGE,
        "recado_queue_messages_mean",
        "Messages waiting for a device, of a sample.",
        SITE,
        _of_sample(lambda q: q.messages / q.sampled if q.sampled else 0),
    ),
    Metric(
        Kind.GAUGE, "recado_queue_messages_max", "The longest queue of a sample.", SITE, _of_sample(lambda q: q.longest)
    ),
    Metric(
        Kind.GAUGE,
        "recado_queue_age_seconds_max",
        "The oldest message waiting in a sample.",
        SITE,
        _of_sample(lambda q: q.oldest_seconds),
    ),
    # Redis and the bus
    Metric(
        Kind.HISTOGRAM, "recado_redis_seconds", "Time of a script.", ("script",), of_each(lambda c: c.redis_seconds)
    ),
    Metric(
        Kind.COUNTER, "recado_redis_errors", "Errors that Redis answered.", ("kind",), of_each(lambda c: c.redis_errors)
    ),
    Metric(Kind.COUNTER, "recado_redis_losses", "Links to Redis that broke.", (), of_node(lambda c: c.redis_losses)),
    Metric(Kind.COUNTER, "recado_bus_gaps", "Gaps found on the bus.", SITE, of_site(lambda s: s.bus_gaps)),
    Metric(
        Kind.COUNTER,
        "recado_bus_interruptions",
        "Subscriptions to the bus made again.",
        (),
        of_node(lambda c: c.bus_interruptions),
    ),
    Metric(
        Kind.HISTOGRAM, "recado_bus_probe_seconds", "Time of the bus probe.", (), of_node(lambda c: c.probe_seconds)
    ),
    # This process
    Metric(
        Kind.COUNTER,
        "recado_faults",
        "Errors of the server itself that hurt one listener or message.",
        ("place",),
        of_each(lambda c: c.faults),
    ),
    Metric(
        Kind.HISTOGRAM,
        "recado_loop_lag_seconds",
        "How late a timer of the event loop was.",
        (),
        of_node(lambda c: c.loop_lag_seconds),
    ),
)
