"""What the intake is compared with: a Django view that inserts one row through the ORM, and nothing else."""

from __future__ import annotations

import django
from django.conf import settings
from django.db import models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # which gives the length of the answer
settings.ROOT_URLCONF = __name__
settings.ALLOWED_HOSTS = ["*"]
django.setup()


class BareWebhook(models.Model):
    headers = models.JSONField()
    body = models.BinaryField()

    class Meta:
        app_label = "inbox"
        managed = False
        db_table = "bare_webhook"


def receive(request: HttpRequest) -> HttpResponse:
    webhook = BareWebhook.objects.create(headers=dict(request.headers), body=request.body)
    return JsonResponse({"id": webhook.pk}, status=201)


def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("receive", receive), path("healthz", healthz)]

from django.core.wsgi import get_wsgi_application  # noqa: E402 - after the settings

application = get_wsgi_application()
