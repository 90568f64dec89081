"""The paths of the example; Recado asks the last one."""

from django.urls import path

from notes import views
from recado_client.django import rooms_view

urlpatterns = [
    path("", views.page),
    path("notes", views.add),
    path("recado/rooms", rooms_view),
]
