"""A FastAPI application with a page of notes: each note reaches the browsers of its user.

    pip install fastapi uvicorn clients/python
    recado serve --host 127.0.0.1 --sites examples/fastapi/sites.yml
    cd examples/fastapi
    uvicorn app:app --port 8002

Then open http://127.0.0.1:8002/?user=alice in two windows and send a note.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from recado_client import AsyncClient
from recado_client.fastapi import PageToken, provide, recado_router

RECADO_URL = os.environ.get("RECADO_URL", "http://127.0.0.1:1337")
PAGE = (Path(__file__).parent / "page.html").read_text()

recado = AsyncClient(RECADO_URL, "fastapi", "put-a-key-of-your-own-here")
Recado = Annotated[AsyncClient, Depends(provide(recado))]
#: Token -> user. A real site has its sessions, in a database, in the place of this.
sessions: dict[str, str] = {}


class Note(BaseModel):
    """A note of a user."""

    user: Annotated[str, Field(pattern=r"^\w+$")]
    text: Annotated[str, Field(min_length=1, max_length=200)]


async def rooms_of(token: PageToken) -> list[str] | None:
    """The rooms of the user whose token it is: one of their own, and one for everybody. Nobody's is refused."""
    user = sessions.get(token or "")
    return None if user is None else [f"user_{user}", "everybody"]


app = FastAPI()
app.include_router(recado_router(recado, rooms_of), prefix="/recado")


@app.get("/")
async def page(user: Annotated[str, Query(pattern=r"^\w+$")] = "alice") -> HTMLResponse:
    """The page of the user in the query. A real site has a login in the place of this."""
    token = secrets.token_urlsafe()
    sessions[token] = user
    page = {"user": user, "token": token, "url": f"{RECADO_URL}/fastapi", "notes": "/notes"}
    return HTMLResponse(PAGE.replace("RECADO_URL", RECADO_URL).replace("{}", json.dumps(page)))


@app.post("/notes", status_code=204)
async def add(note: Note, recado: Recado) -> None:
    """Send a note to the browsers of its user."""
    await recado.send(f"user_{note.user}", "note", [{"text": note.text}])
