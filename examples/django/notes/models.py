"""A note of a user."""

from django.conf import settings
from django.db import models


class Note(models.Model):
    """One note."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.CharField(max_length=200)
