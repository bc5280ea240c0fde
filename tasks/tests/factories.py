"""The smallest valid objects of the tasks app."""

from __future__ import annotations

from datetime import UTC, datetime

import factory

from automation_lab.core import crypto
from tasks.models import NotificationChannel, ScheduledTask, Secret, TaskAttempt, TaskExecution, TaskLog


class ScheduledTaskFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = ScheduledTask

    name = factory.Sequence("task {}".format)
    task_type = "api_call"
    config = factory.LazyFunction(lambda: {"url": "https://api.example.com/report"})


class TaskExecutionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = TaskExecution

    task = factory.SubFactory(ScheduledTaskFactory)


class TaskAttemptFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = TaskAttempt

    execution = factory.SubFactory(TaskExecutionFactory)
    number = 1
    epoch = factory.Sequence(lambda number: number + 1)
    worker = 1
    status = "success"
    started_at = factory.LazyFunction(lambda: datetime.now(UTC))


class TaskLogFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = TaskLog

    execution = factory.SubFactory(TaskExecutionFactory)
    seq = factory.Sequence(int)
    at = factory.LazyFunction(lambda: datetime.now(UTC))
    text = "started"


class SecretFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Secret

    class Params:
        value = "a-secret-value-0001"

    name = factory.Sequence("SECRET_{}".format)
    ciphertext = factory.LazyAttribute(lambda secret: crypto.encrypt(secret.value, bind=f"secret:{secret.name}"))


class NotificationChannelFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = NotificationChannel

    name = factory.Sequence("channel-{}".format)
    kind = "slack"
    target_ciphertext = factory.LazyAttribute(
        lambda channel: crypto.encrypt("https://hooks.example.com/T0/B0/token", bind=f"channel:{channel.name}")
    )
