"""A Django project with a page of notes: each note reaches the browsers of its user when its row is committed.

    pip install "django>=5.2,<6" clients/python
    recado serve --host 127.0.0.1 --sites examples/django/sites.yml
    cd examples/django
    python manage.py migrate --run-syncdb
    python manage.py runserver 8001

Then open http://127.0.0.1:8001/?user=alice in two windows and send a note.
"""

import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
execute_from_command_line(sys.argv)
