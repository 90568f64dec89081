"""The settings of the example; those of Recado come last."""

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("NOTES", FOLDER / "notes.sqlite3")}
}
DEBUG = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "notes"]
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
ROOT_URLCONF = "notes.urls"
SECRET_KEY = "put-a-secret-of-your-own-here"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

RECADO = {
    "url": os.environ.get("RECADO_URL", "http://127.0.0.1:1337"),
    "site": "django",
    "api_key": "put-a-key-of-your-own-here",
    "rooms": "notes.views.rooms_of",
}
