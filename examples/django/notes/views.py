"""The page of a user, and the form that stores a note and sends it."""

from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from notes.models import Note
from recado_client.django import client, page_token, send_on_commit


def rooms_of(user: User) -> list[str]:
    """The rooms of a user: one of their own, and one for everybody."""
    return [f"user_{user.pk}", "everybody"]


def page(request: HttpRequest) -> HttpResponse:
    """The page of the user in the query. A real site has a login in the place of this."""
    user, _ = User.objects.get_or_create(username=request.GET.get("user", "alice"))
    recado = client().settings
    return render(
        request, "notes/page.html", {"user": user, "token": page_token(user), "url": recado.url, "site": recado.site}
    )


@require_POST
def add(request: HttpRequest) -> HttpResponse:
    """Store a note; the browsers of its user get it when the transaction has committed."""
    with transaction.atomic():
        user = User.objects.get(username=request.POST["user"])
        note = Note.objects.create(user=user, text=request.POST["text"])
        send_on_commit(f"user_{user.pk}", "note", [{"id": note.pk, "text": note.text}])
    return HttpResponse(status=204)
