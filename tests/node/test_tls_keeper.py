"""The certificate in use: files that change are read once they are still; files that do not serve change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.config.settings import TlsSettings
from app.node.tls_figures import TlsFigures
from app.node.tls_keeper import TlsKeeper
from app.observe.counts import Counts
from app.watched_tasks import WatchedTasks
from tests.support.certificates import Authority, Pair
from tests.support.waiting import until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of this test."""
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """The server's files."""
    return authority.sign("first")


@pytest.fixture
async def keeper(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TlsKeeper]:
    """A keeper in a hurry."""
    monkeypatch.setattr(TlsKeeper, "look_seconds", 0.02)
    with WatchedTasks().current():
        keeper = TlsKeeper(TlsSettings(cert=pair.cert, key=pair.key))
        yield keeper
        await keeper.close()


async def test_files_that_change(keeper: TlsKeeper, authority: Authority, pair: Pair) -> None:
    """A new pair is in use once both files are still, and the figures show it."""
    counts = Counts()
    keeper.start(counts)
    context = keeper.context
    pair.take_over(authority.sign("second", days=90))
    await until(lambda: keeper.context is not context, "the new pair")
    certificate = counts.part(TlsFigures).certificate
    assert certificate is not None
    assert certificate.subject == "CN=second"
    assert certificate.days_left(datetime.now(UTC)) > 80


async def test_one_file_after_the_other(keeper: TlsKeeper, authority: Authority, pair: Pair) -> None:
    """A pair of which one file comes later is in use once it is whole; until then the old pair is."""
    keeper.start(Counts())
    context, other = keeper.context, authority.sign("second")
    with capture_logs() as lines:
        pair.cert.write_bytes(other.cert.read_bytes())
        await until(lambda: any(line["event"] == "certificate not reloaded" for line in lines), "the half pair")
        assert keeper.context is context
        pair.key.write_bytes(other.key.read_bytes())
        await until(lambda: keeper.context is not context, "the whole pair")


@pytest.mark.parametrize("content", [None, b"", b"nothing"])
async def test_files_that_do_not_serve(keeper: TlsKeeper, pair: Pair, content: bytes | None) -> None:
    """A file that is gone, empty or broken is told once, with its reason; the old certificate stays."""
    keeper.start(Counts())
    context = keeper.context
    with capture_logs() as lines:
        if content is None:
            pair.key.unlink()
        else:
            pair.key.write_bytes(content)
        await until(lambda: lines, "a line")
        keeper.ask()
        await until(lambda: len(lines) >= 2, "another one")
        assert {line["event"] for line in lines} == {"certificate not reloaded"}
        assert all("tls.key: " in line["reason"] for line in lines)
        assert keeper.context is context


async def test_an_order_to_read(keeper: TlsKeeper) -> None:
    """SIGHUP reads the files although they have not changed."""
    keeper.look_seconds = 60.0
    keeper.start(Counts())
    context = keeper.context
    keeper.ask()
    await until(lambda: keeper.context is not context, "the reload")


@pytest.mark.parametrize(("days", "warns"), [(-3, True), (5, True), (60, False)])
async def test_an_end_that_is_near(authority: Authority, days: int, warns: bool) -> None:
    """A certificate that ends soon, or has ended, is told at the start; the server serves all the same."""
    pair = authority.sign("server", days=days)
    with capture_logs() as lines, WatchedTasks().current():
        keeper = TlsKeeper(TlsSettings(cert=pair.cert, key=pair.key))
        keeper.start(Counts())
        await asyncio.sleep(0)
        await keeper.close()
    assert [line["event"] for line in lines] == (["certificate ends soon"] if warns else [])
