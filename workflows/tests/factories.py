"""The smallest valid objects of the workflows app."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import factory

from workflows.models import (
    MessageTemplate,
    NamedSchema,
    StepAttempt,
    StepExecution,
    WaitToken,
    Workflow,
    WorkflowExecution,
    WorkflowLog,
    WorkflowVersion,
)


class WorkflowFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Workflow

    name = factory.Sequence("workflow {}".format)
    steps = factory.LazyFunction(list)


class WorkflowVersionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = WorkflowVersion

    workflow = factory.SubFactory(WorkflowFactory)
    number = 1
    steps = factory.LazyAttribute(lambda version: version.workflow.steps)
    timeout_seconds = 3600
    trigger_type = "manual"
    sha256 = "0" * 64


class WorkflowExecutionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = WorkflowExecution

    workflow = factory.SubFactory(WorkflowFactory)
    version = factory.SubFactory(WorkflowVersionFactory, workflow=factory.SelfAttribute("..workflow"))


class StepExecutionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = StepExecution

    execution = factory.SubFactory(WorkflowExecutionFactory)
    path = factory.Sequence("step_{}".format)
    step_id = factory.SelfAttribute("path")
    type = "set"


class StepAttemptFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = StepAttempt

    step = factory.SubFactory(StepExecutionFactory)
    number = 1
    epoch = factory.Sequence(lambda number: number + 1)
    worker = 1
    status = "success"
    started_at = factory.LazyFunction(lambda: datetime.now(UTC))


class WorkflowLogFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = WorkflowLog

    execution = factory.SubFactory(WorkflowExecutionFactory)
    seq = factory.Sequence(int)
    at = factory.LazyFunction(lambda: datetime.now(UTC))
    text = "started"


class MessageTemplateFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = MessageTemplate

    name = factory.Sequence("template {}".format)
    subject = "Your order"


class NamedSchemaFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = NamedSchema

    name = factory.Sequence("schema {}".format)
    schema = factory.LazyFunction(lambda: {"type": "object"})


class WaitTokenFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = WaitToken

    kind = "approval"
    step = factory.SubFactory(StepExecutionFactory)
    token_hash = factory.Sequence(lambda number: hashlib.sha256(str(number).encode()).hexdigest())
    expires_at = factory.LazyFunction(lambda: datetime.now(UTC) + timedelta(days=1))
