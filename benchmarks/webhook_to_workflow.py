"""A 7 kB webhook starts condition, HTTP call and set: runs finished per second, and sent to finished at 5 a second."""

from __future__ import annotations

import time

import httpx
from lab import PUSH, TOKEN, Lab, lab, percentiles

RUNS = 600


def workflow(target_port: int) -> dict[str, object]:
    call = {"method": "POST", "url": f"http://127.0.0.1:{target_port}/hook", "body": {"ref": "{{ trigger.data.ref }}"}}
    return {
        "name": "Benchmark",
        "trigger_type": "webhook",
        "trigger_config": {"source": "bench", "event_type": "push"},
        "steps": [
            {"type": "condition", "config": {"if": "trigger.data.ref == 'refs/heads/main'", "then": []}},
            {"type": "api_call", "id": "call", "config": call},
            {"type": "set", "config": {"values": {"status": "{{ steps.call.output.status }}"}}},
        ],
    }


def send(client: httpx.Client) -> None:
    headers = {"X-GitHub-Event": "push", "Content-Type": "application/json"}
    client.post("/v1/webhooks/inbox/bench", content=PUSH, headers=headers).raise_for_status()


def backlog(name: str, running: Lab, client: httpx.Client, workers: int) -> None:
    from workflows.models import WorkflowExecution

    WorkflowExecution.objects.all().delete()
    for _ in range(RUNS):
        send(client)
    processes = [running.start_worker() for _ in range(workers)]
    while WorkflowExecution.objects.exclude(status="success").exists():
        time.sleep(0.1)
    ended = sorted(WorkflowExecution.objects.values_list("finished_at", flat=True))
    ended = ended[len(ended) // 10 :]  # the start is left out
    print(f"{name}: {(len(ended) - 1) / (ended[-1] - ended[0]).total_seconds():.0f} runs/s", flush=True)
    running.stop(*processes)


def trickle(running: Lab, client: httpx.Client) -> None:
    from workflows.models import WorkflowExecution

    running.start_worker()
    time.sleep(5)
    WorkflowExecution.objects.all().delete()
    sent = []
    for _ in range(100):
        sent.append(time.time())
        send(client)
        time.sleep(max(0.0, 0.2 - (time.time() - sent[-1])))
    time.sleep(2)
    ended = WorkflowExecution.objects.order_by("id").values_list("finished_at", flat=True)
    taken = [instant.timestamp() - start for start, instant in zip(sent, ended, strict=True)]
    print(f"5 a second, sent to finished: {percentiles(taken)}", flush=True)


def main() -> None:
    with lab() as running, httpx.Client(base_url=running.url, timeout=30) as client:
        answer = client.post(
            "/v1/workflows", json=workflow(running.target_port), headers={"Authorization": f"Bearer {TOKEN}"}
        )
        answer.raise_for_status()
        print(f"{len(PUSH)} bytes, {RUNS} runs each", flush=True)
        backlog("1 worker process", running, client, 1)
        backlog("2 worker processes", running, client, 2)
        trickle(running, client)


if __name__ == "__main__":
    main()
