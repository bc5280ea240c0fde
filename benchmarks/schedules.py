"""Jitter of a one-second schedule, 1,000 schedules due in one second, and pending to started on an idle worker."""

from __future__ import annotations

import time
from datetime import timedelta

import httpx
from lab import TOKEN, lab, percentiles

SECONDS = 60
MANY = 1_000


def jitter(config: dict[str, object]) -> None:
    from tasks import services
    from tasks.models import TaskExecution

    task = services.create_task(
        fields={"name": "Beat", "task_type": "api_call", "schedule": "every 1 second", "config": config}
    )
    time.sleep(SECONDS + 2)
    services.pause_task(task=task)
    runs = TaskExecution.objects.filter(task=task, started_at__isnull=False)
    late = [(started - slot).total_seconds() for started, slot in runs.values_list("started_at", "scheduled_for")]
    print(f"one-second schedule, slot to start: {percentiles(late)}", flush=True)


def many_at_once(config: dict[str, object]) -> None:
    from automation_lab.core import clock
    from tasks.models import ScheduledTask, TaskExecution

    slot = (clock.database_now() + timedelta(seconds=5)).replace(microsecond=0)
    ScheduledTask.objects.bulk_create(
        ScheduledTask(
            name=f"Many {number}", task_type="api_call", schedule=slot.isoformat(), config=config, next_run_at=slot
        )
        for number in range(MANY)
    )
    runs = TaskExecution.objects.filter(scheduled_for=slot)
    while runs.filter(started_at__isnull=False).count() < MANY:
        time.sleep(0.2)
    recorded = max(runs.values_list("created_at", flat=True)) - slot
    started = max(runs.values_list("started_at", flat=True)) - slot
    print(
        f"{MANY} due in one second: last recorded after {recorded.total_seconds():.2f} s, "
        f"last started after {started.total_seconds():.2f} s",
        flush=True,
    )


def idle_start(client: httpx.Client, config: dict[str, object]) -> None:
    from tasks import services
    from tasks.models import TaskExecution

    task = services.create_task(fields={"name": "By hand", "task_type": "api_call", "config": config})
    for _ in range(100):
        client.post(f"/v1/tasks/{task.pk}/executions", json={}).raise_for_status()
        time.sleep(0.12)
    time.sleep(2)
    runs = TaskExecution.objects.filter(task=task).values_list("created_at", "started_at")
    print(f"pending to started, idle worker: {percentiles([(b - a).total_seconds() for a, b in runs])}", flush=True)


def main() -> None:
    with (
        lab() as running,
        httpx.Client(base_url=running.url, timeout=30, headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        config = {"method": "POST", "url": f"http://127.0.0.1:{running.target_port}/"}
        running.start_worker()
        time.sleep(5)
        idle_start(client, config)
        jitter(config)
        many_at_once(config)


if __name__ == "__main__":
    main()
