"""The pages for operators' machines: /metrics, /healthz, /readyz. Holds no figures of its own."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from app.observe.fleet import Fleet
from app.observe.health import Health
from app.observe.metrics import CONTENT_TYPE

#: The path at which a worker asks another for its own figures.
OWN_METRICS_PATH = "/metrics/own"

_NO_STORE = {"Cache-Control": "no-store"}


def observe_routes(fleet: Fleet, health: Health) -> list[BaseRoute]:
    """The routes. None needs a key, so a proxy in front of the server should not publish /metrics."""

    async def answer_metrics(request: Request) -> Response:
        return Response(await fleet.render(), media_type=CONTENT_TYPE, headers=_NO_STORE)

    async def answer_own_metrics(request: Request) -> Response:
        return Response(await fleet.render_own(), media_type=CONTENT_TYPE, headers=_NO_STORE)

    async def answer_alive(request: Request) -> Response:
        return PlainTextResponse("ok", headers=_NO_STORE)

    async def answer_ready(request: Request) -> Response:
        checks = health.check()
        is_ready = all(checks.values())
        notices = health.notices()
        answer = {"ready": is_ready, "checks": checks, **({"notices": notices} if notices else {})}
        return JSONResponse(answer, 200 if is_ready else 503, headers=_NO_STORE)

    return [
        Route("/metrics", answer_metrics),
        Route(OWN_METRICS_PATH, answer_own_metrics),
        Route("/healthz", answer_alive),
        Route("/readyz", answer_ready),
    ]
