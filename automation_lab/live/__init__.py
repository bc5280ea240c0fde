"""The live port: `/live/tail` sends one JSON message for every webhook, execution change and API log row.

`application` is what granian serves. Messages have a `type`: `hello` once nothing that commits later will be missed,
then one of the topics (with `event`, `id`, `at` and a summary of the row). `gap`: the database was away and changes may
have been missed; `dropped`: the client read too slowly and lost `count` messages; `beat`: nothing else was to be said.
"""

from __future__ import annotations

import os
from typing import Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path, re_path

from automation_lab.serving.process import end_with_server

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automation_lab.settings")
end_with_server()  # a killed granian would leave its workers serving
django.setup()

from automation_lab.live import answers, consumer  # noqa: E402 - they import models

elsewhere: Any = answers.unknown_socket  # Django's path() is annotated for views only
application = ProtocolTypeRouter(
    {
        "http": answers.http,
        "websocket": URLRouter([path("live/tail", consumer.TailConsumer.as_asgi()), re_path("", elsewhere)]),
    }
)
