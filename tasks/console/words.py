"""How tasks look in the console."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from automation_lab.core.admin import Panel
from automation_lab.core.console import display as show
from automation_lab.core.exceptions import Invalid
from tasks.console.history import History, RecentRun
from tasks.models import ScheduledTask, TaskExecution
from tasks.scheduling import previews, ticking

UPCOMING_RUNS = 5


def schedule_words(task: ScheduledTask) -> SafeString:
    """What the schedule means, and below it how it is written."""
    if not task.schedule:
        return show.muted("Only by hand")
    written = show.mono(task.schedule)
    try:
        schedule = ticking.schedule_of(task)
    except Invalid as error:
        return show.two_lines(show.shortened(error.message, 60), written)
    return show.two_lines(show.shortened(schedule.explain() if schedule else "", 80), written)


def state_of(task: ScheduledTask) -> SafeString:
    if task.archived_at:
        return show.label("archived", "quiet")
    if task.schedule_error:
        return show.label("set aside", "bad")
    if not task.enabled:
        return show.titled(show.label("paused", "warn"), task.pause_note)
    return show.label("on", "good")


def run_cells(history: History) -> SafeString:
    """The latest runs, oldest first, as coloured cells that lead to them. Screen readers get the sums."""
    if not history.runs:
        return show.muted("no runs yet")
    cells = format_html_join(
        "",
        '<a class="lab-cell lab-{}" data-state="{}" href="{}" title="{}" tabindex="-1"></a>',
        (
            (show.tone(run.status), run.status, show.object_url("tasks.taskexecution", run.pk), _tooltip(run))
            for run in history.runs
        ),
    )
    sums = ", ".join(
        f"{number} {status}" for status, number in Counter(run.status for run in history.runs).most_common()
    )
    return format_html(
        '<span class="lab-cells"><span class="lab-unseen">The latest runs: {}</span><span aria-hidden="true">{}</span></span>',
        sums,
        cells,
    )


def _tooltip(run: RecentRun) -> str:
    parts = [f"#{run.pk} {run.status}" + (f", stands for {run.count} slots" if run.count > 1 else "")]
    parts.append(f"{run.at:%Y-%m-%d %H:%M:%S UTC}")
    if run.duration_ms is not None:
        parts.append(show.duration(run.duration_ms))
    return "\n".join([", ".join(parts), *([run.error] if run.error else [])])


def slot_of(run: TaskExecution) -> SafeString:
    """The slot that `run` is for, and how many after it it stands for, too."""
    more = f" and {run.count - 1} more" if run.count > 1 else ""
    return format_html("{}{}", show.when(run.scheduled_for), more)


def upcoming(task: ScheduledTask, *, now: datetime) -> Panel:
    """The next runs, with what changes of clocks do to them."""
    title = "Next runs" if task.enabled else "Next runs, once it is resumed"
    try:
        preview = previews.of_task(task, now=now, count=UPCOMING_RUNS)
    except Invalid as error:
        return Panel(title, empty=error.message)
    runs = preview["runs"]
    has_notes = any(run["note"] for run in runs)
    headers = ["When", f"In {task.timezone}", *(["Note"] if has_notes else [])]
    rows = [_upcoming_cells(run, ZoneInfo(task.timezone), now)[: len(headers)] for run in runs]
    return Panel(f"{title}: {preview['explanation']}", headers, rows, empty=preview["explanation"])


def _upcoming_cells(run: dict[str, Any], zone: ZoneInfo, now: datetime) -> list[Any]:
    instant = run["at_utc"]
    return [
        show.relative(instant, now),
        show.mono(f"{instant.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}"),
        show.label(run["note"], "warn") if run["note"] else show.EMPTY,
    ]
