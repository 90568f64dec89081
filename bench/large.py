"""The scenario of many connections: what each costs as they grow, a message to all of them, the end of their server."""

from __future__ import annotations

import concurrent.futures as futures
import statistics
import threading
import time
from collections.abc import Iterable

from bench.contenders import API_KEY
from bench.crowd import CROWD_SITE, PLAIN_SITE, Ground, Window, open_ground
from bench.posting import Poster
from bench.scale import Scale
from bench.stage import Sample, Stage

_SUBJECT = "recado"
_UNICAST_TARGETS = 4
_MOST_MESSAGES = 100
# As in a crowd that comes after a deploy: more at once than in the scenario `connect`.
_CONCURRENCY = 200
_OWN_SEND_AFTER_SECONDS = 0.05
_OWN_NUMBER = 90
_CALM_SECONDS = 5.0
_AWAY_MESSAGES = 3
_WARM_UP_DEVICES = 1000
_RETURNS = ("with tickets", "authUrl asked")

CONNECT, UNICAST, FAN_OUT = "large: connect, {} connected", "large: unicast, {} connected", "large: fan-out to {}"
IDLE, TO_ALL, PLAIN = "large: idle", "large: one message to all", "large: plain fan-out to all"
CALM, MEANWHILE, RETURN = "large: another site, calm", "large: another site, meanwhile", "large: all come back, {}"


def large(stage: Stage) -> None:
    """Connect very many devices to one server of several processes; measure it as they grow, full, and killed."""
    if _SUBJECT not in stage.contenders:
        return
    scale = stage.scale
    with open_ground(stage.place, scale.large_workers, scale.large_generators) as ground:
        run = _Run(stage, ground)
        run.grow()
        run.rest()
        run.fan_out()
        run.message_to_all()
        run.come_back()
        ground.disembark()
        run.plain()


class _Run:
    """One run of the scenario, for which it lives."""

    def __init__(self, stage: Stage, ground: Ground) -> None:
        self._stage = stage
        self._ground = ground
        self._scale: Scale = stage.scale
        self._idle_share = 0.0
        self._memory = 0.0, 0.0
        # Windows until the cost of an idle connection is known: name, operations, what else was measured.
        self._until_idle: list[tuple[str, int, Window, Sample]] = []

    def grow(self) -> None:
        """Connect devices step by step; at each step send to the same few of them."""
        scale, ground = self._scale, self._ground
        # The first devices load and compile code.
        ground.board(CROWD_SITE, min(scale.large_connections[-1], 100), [], _CONCURRENCY)
        ground.disembark()
        time.sleep(1.0)
        self._memory = ground.memory_kb()
        for count in scale.large_connections:
            before, windows = ground.connected, list[Window]()
            with ground.window(windows):
                answer = ground.board(CROWD_SITE, count, list(scale.large_fan_outs), _CONCURRENCY)
            figures = {"per_second": (count - before) / answer["seconds"], "p99_ms": answer["p99_ms"]}
            self._until_idle.append((CONNECT.format(count), count - before, windows[0], figures))
            self._unicast(count)

    def _unicast(self, connected: int) -> None:
        scale, ground, windows = self._scale, self._ground, list[Window]()
        plan = {"messages": scale.large_unicasts, "publishers": scale.publishers, "gap_seconds": 0.0}
        endpoint = {"address": ground.address, "site": CROWD_SITE, "api_key": API_KEY, "payload_bytes": 100}
        users = min(_UNICAST_TARGETS, connected)
        for _ in range(scale.large_rounds):
            with ground.window(windows):
                answer = ground.generators[0].call("unicast", endpoint=endpoint, users=users, plan=plan)
            figures = {"per_second": scale.large_unicasts / answer["seconds"], "p99_ms": answer["p99_ms"]}
            self._until_idle.append((UNICAST.format(connected), scale.large_unicasts, windows[-1], figures))

    def rest(self) -> None:
        """Measure the memory of a device, and the CPU while nothing is sent, over one ping interval."""
        scale, ground, windows = self._scale, self._ground, list[Window]()
        count = ground.connected
        server, stored = ground.memory_kb()
        with ground.window(windows):
            time.sleep(scale.idle_seconds)
        share = windows[0].server_seconds / windows[0].seconds / count
        self._idle_share = share
        self._record(
            IDLE,
            {
                "kb_per_device": (server - self._memory[0]) / count,
                "redis_kb_per_device": (stored - self._memory[1]) / count,
                "core_percent_per_1000": 100_000 * share,
                "kb_of_a_process": self._memory[0] / scale.large_workers,
                "processes": scale.large_workers,
            },
        )
        for name, operations, window, figures in self._until_idle:
            self._record(name, window.costs_us(operations, share) | figures)

    def fan_out(self) -> None:
        """Send to rooms of growing size, in turns."""
        scale = self._scale
        for turn in range(scale.large_rounds + 1):
            for size in scale.large_fan_outs:
                if not turn and size > _WARM_UP_DEVICES:
                    continue
                messages = max(1, min(_MOST_MESSAGES, scale.large_fan_outs[-1] // size))
                sample = self._send(CROWD_SITE, f"first_{size}", size, messages)
                if turn:
                    self._record(FAN_OUT.format(size), sample)

    def message_to_all(self) -> None:
        """Send to all, while another site sends steadily, and while this one sends to one of its users, too."""
        scale, ground = self._scale, self._ground
        with ground.bystander() as calm:
            time.sleep(min(_CALM_SECONDS, scale.idle_seconds))
        self._record(CALM, {"p50_ms": calm.percentile_ms(50), "p99_ms": calm.percentile_ms(99)})
        ground.forget_slow_runs()
        lags = ground.loop_lags()
        with ground.bystander() as others:
            sample = self._send(CROWD_SITE, "all", scale.large_connections[-1], scale.large_messages, own_sends=True)
        longest = {"longest_run_ms": ground.longest_run_ms(), "longest_turn_ms": ground.longest_lag_ms(lags)}
        self._record(TO_ALL, sample | longest)
        most = {"p50_ms": others.percentile_ms(50), "p99_ms": others.percentile_ms(99)}
        self._record(MEANWHILE, most | {"most_ms": others.percentile_ms(100)})

    def plain(self) -> None:
        """Connect as many devices to a site that stores nothing, and send to all."""
        scale, ground = self._scale, self._ground
        ground.board(PLAIN_SITE, scale.large_connections[-1], [], _CONCURRENCY)
        for turn in range(scale.large_rounds + 1):
            sample = self._send(PLAIN_SITE, "all", ground.connected, 1)
            if turn:
                self._record(PLAIN, sample)

    def come_back(self) -> None:
        """Let all devices lose their server and come back: with resume tickets, and without them."""
        with self._ground.door() as behind:
            for how in _RETURNS[: self._scale.large_returns]:
                if how is not _RETURNS[0]:
                    self._ground.all("forget_tickets")
                self._come_back(how, behind)

    def _come_back(self, how: str, behind: Poster) -> None:
        """Kill the server while a message is on its way to all, send through another node, start the server again, and
        wait until all devices are there with all messages."""
        ground = self._ground
        ground.all("hear")
        ground.all("expect_losses")
        ground.forget_slow_runs()
        poster = ground.poster(CROWD_SITE)
        poster.post(["all"], 0)
        killed = time.perf_counter()
        stored_before = ground.usage().redis_seconds
        ground.kill()
        poster.close()
        for generator in ground.generators:
            generator.begin("come_back")
        # A child ends with the thread that started it: the messages, not the server, are the other thread's.
        with futures.ThreadPoolExecutor(1) as pool:
            sent = pool.submit(_post_to_all, behind, range(1, _AWAY_MESSAGES))
            ground.restart()
            listens = time.perf_counter()
            sent.result()
        # While they come back, and when all are there.
        _post_to_all(behind, [_AWAY_MESSAGES])
        answers = [generator.finish("come_back") for generator in ground.generators]
        _post_to_all(behind, [_AWAY_MESSAGES + 1])
        ground.heard(_AWAY_MESSAGES + 1, ground.connected, killed, may_repeat=True)
        spent = ground.usage()
        missing = sum(answer["missing"] for answer in ground.all("missing", messages=_AWAY_MESSAGES + 2))
        times = sorted(at - killed for answer in answers for at in answer["times"])
        self._record(
            RETURN.format(how),
            {
                "listens_seconds": listens - killed,
                "half_back_seconds": times[len(times) // 2],
                "all_back_seconds": times[-1],
                "server_us": 1e6 * (spent.server_seconds - ground.start_seconds) / ground.connected,
                "redis_us": 1e6 * (spent.redis_seconds - stored_before) / ground.connected,
                "tries": sum(answer["tries"] for answer in answers) / ground.connected,
                "refusals": sum(answer["refusals"] for answer in answers),
                "missing": missing,
                "unavailable": behind.refused,
                "longest_run_ms": ground.longest_run_ms(),
            },
        )

    def _send(self, site: str, room: str, size: int, messages: int, own_sends: bool = False) -> Sample:
        """Send messages to a room, one after the other; `own_sends`: one to a user while each is under way."""
        ground, windows, delays, own = self._ground, list[Window](), list[list[float]](), list[float]()
        ground.all("hear")
        poster = ground.poster(site)
        with ground.window(windows):
            for number in range(messages):
                sender = threading.Thread(target=self._send_own, args=(_OWN_NUMBER + number, own))
                if own_sends:
                    sender.start()
                began = poster.post([room], number)
                delays.append(ground.heard(number, size, began))
                if own_sends:
                    sender.join()
        poster.close()
        ranked = sorted(delay for one in delays for delay in one)
        return {
            **windows[0].costs_us(size * messages, self._idle_share),
            "p50_ms": 1000 * statistics.median(ranked),
            "p99_ms": 1000 * ranked[int(len(ranked) * 0.99)],
            "last_p50_ms": 1000 * statistics.median(one[-1] for one in delays),
            **({"own_p50_ms": 1000 * statistics.median(own)} if own else {}),
        }

    def _send_own(self, number: int, delays: list[float]) -> None:
        time.sleep(_OWN_SEND_AFTER_SECONDS)
        poster = self._ground.poster(CROWD_SITE)
        began = poster.post(["user_1"], number)
        delays.append(time.perf_counter() - began)
        poster.close()

    def _record(self, name: str, sample: Sample) -> None:
        self._stage.record(name, self._ground, sample)


def _post_to_all(poster: Poster, numbers: Iterable[int]) -> None:
    for number in numbers:
        poster.post(["all"], number)
