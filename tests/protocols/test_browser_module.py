"""Modules for pages: smaller than their source, and the same to those who use them."""

from __future__ import annotations

from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette

from app.protocols.browser_module import module_route, small_module

SOURCE = """/**
 * What it is.
 */

const words = ["a", // stays
  "b"];

/** One. */
export class One {
  #long = 1;
  // A reason.
  get #other() {
    return this.#long;
  }

  async read() {
    return [this.#other, words];
  }
}
"""


def test_small_module() -> None:
    """Comments on lines of their own, indentation and needless line ends go; private names are short, others stay."""
    assert small_module(SOURCE) == (
        'const words = ["a", // stays\n"b"];export class One {#a = 1;get #b() {return this.#a;}\n'
        "async read() {return [this.#b, words];}\n}\n"
    )


def test_many_private_names() -> None:
    """Each private name stays another one, also past the letters of the alphabet."""
    names = [f"#name{number}" for number in range(120)]
    small = small_module("\n".join(f"{name} = 1;" for name in names)).split(";")[:-1]
    assert len(set(small)) == 120
    assert max(map(len, small)) == len("#aa = 1")


async def test_route() -> None:
    """Any page may load a module; the second time it is 304."""
    transport = ASGITransport(Starlette(routes=[module_route("/one.js", "export {};")]))
    async with AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/one.js")
        assert (answer.text, answer.headers["content-type"]) == ("export {};", "text/javascript; charset=utf-8")
        assert answer.headers["access-control-allow-origin"] == "*"
        again = await client.get("/one.js", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
