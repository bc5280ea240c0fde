"""The WSGI application that granian serves."""

import os

from django.core.wsgi import get_wsgi_application

from automation_lab.core.stopping import watch_signals
from automation_lab.serving.process import end_with_server

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automation_lab.settings")
end_with_server()  # a killed granian would leave its workers serving
watch_signals()
application = get_wsgi_application()
