"""Every page of the console: it opens, it is cheap, it keeps to the content policy, it shows no secret."""

from __future__ import annotations

import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.urls import reverse

from apilogs.tests.factories import ApiLogFactory
from automation_lab import tokens
from automation_lab.models import ApiToken
from automation_lab.tests.console_rows import ROWS
from inbox.tests.factories import SourceFactory, WebhookFactory
from tasks.tests.factories import NotificationChannelFactory, ScheduledTaskFactory, SecretFactory, TaskExecutionFactory
from workflows.models import WorkflowExecution
from workflows.tests.factories import WaitTokenFactory, WorkflowExecutionFactory, WorkflowFactory

MAX_QUERIES = 12
BACKEND = "django.contrib.auth.backends.ModelBackend"
LABELS = sorted(ROWS)
OUR_APPS = ["automation_lab", "inbox", "tasks", "workflows", "apilogs"]
INLINE = re.compile(rb"<script(?![^>]*\ssrc=)|\son[a-z]+\s*=|javascript:", re.IGNORECASE)

pytestmark = pytest.mark.django_db


def page(label, name, *args):
    return reverse(f"admin:{label.replace('.', '_')}_{name}", args=args)


def model_admin(label):
    return next(entry for model, entry in admin.site._registry.items() if model._meta.label_lower == label)


def key_of(row):
    return tokens.public_id(row) if isinstance(row, ApiToken) else row.pk


@pytest.fixture
def member(client):
    """Signed in with the rights of a group, which costs two queries more than being a superuser."""
    user = User.objects.create(username="member", is_staff=True)
    user.groups.add(Group.objects.get(name="admin"))
    client.force_login(user, backend=BACKEND)
    return client


def test_every_table_has_its_pages_and_all_are_tested_here():
    registered = {model._meta.label_lower for model in admin.site._registry}
    tables = {model._meta.label_lower for app in OUR_APPS for model in apps.get_app_config(app).get_models()}

    assert tables <= registered
    assert registered == set(ROWS)


@pytest.mark.parametrize("label", LABELS)
def test_an_empty_list_opens(member, label, django_assert_max_num_queries):
    with django_assert_max_num_queries(MAX_QUERIES):
        response = member.get(page(label, "changelist"))

    assert response.status_code == 200
    assert not INLINE.search(response.content)


@pytest.mark.parametrize("label", LABELS)
def test_a_list_of_1000_rows_opens(console, label, django_assert_max_num_queries):
    ROWS[label](1000)

    with django_assert_max_num_queries(MAX_QUERIES):
        response = console.get(page(label, "changelist"))

    assert response.context["cl"].result_count >= 1000
    assert not INLINE.search(response.content)
    assert b"&lt;span" not in response.content


@pytest.mark.parametrize("label", LABELS)
def test_the_pages_of_one_row_among_1000_open(console, label, django_assert_max_num_queries):
    row = ROWS[label](1000)[0]
    permitted = {"change": True, "history": True, "delete": model_admin(label).has_delete_permission(_root())}

    for name, is_permitted in permitted.items():
        with django_assert_max_num_queries(MAX_QUERIES):
            response = console.get(page(label, name, key_of(row)))

        assert response.status_code == (200 if is_permitted else 403), name
        assert not INLINE.search(response.content), name
        assert b"&lt;span" not in response.content, name


@pytest.mark.parametrize("label", LABELS)
def test_the_page_to_add_opens_where_adding_is_allowed(console, label, django_assert_max_num_queries):
    ROWS[label](1000)

    with django_assert_max_num_queries(MAX_QUERIES):
        response = console.get(page(label, "add"))

    assert response.status_code == (200 if model_admin(label).has_add_permission(_root()) else 403)
    assert not INLINE.search(response.content)


@pytest.mark.parametrize("label", LABELS)
def test_a_search_and_a_filtered_day_open(console, label):
    ROWS[label](3)
    hierarchy = model_admin(label).date_hierarchy
    filters = {f"{hierarchy}__year": 2025, f"{hierarchy}__month": 11, f"{hierarchy}__day": 24} if hierarchy else {}

    response = console.get(page(label, "changelist"), {"q": "12 o'clock", **filters})

    assert response.status_code == 200


@pytest.mark.parametrize("label", LABELS)
def test_a_row_that_does_not_exist_leads_back(console, label):
    response = console.get(page(label, "change", 999_999_999_999))

    assert response.status_code == 302


@pytest.mark.parametrize("value", ["a\0b", "9" * 40, "%' OR 1=1 --"])
def test_a_strange_search_is_no_server_error(console, value):
    for label in LABELS:
        assert console.get(page(label, "changelist"), {"q": value}).status_code in (200, 302)
    assert console.get(reverse("admin:search"), {"s": value, "extended": 1}).status_code == 200


# --- the overview -----------------------------------------------------------------------------------------------------


def test_an_empty_lab_teaches_the_first_webhook(console, django_assert_max_num_queries):
    with django_assert_max_num_queries(MAX_QUERIES):
        response = console.get(reverse("admin:index"), headers={"host": "localhost:8123"})

    assert b"http://localhost:8123/v1/webhooks/inbox/hello" in response.content


def test_an_empty_inbox_says_how_to_fill_it(console):
    html = console.get(page("inbox.webhook", "changelist"), headers={"host": "lab.example.com"}).content.decode()

    assert "No webhooks yet" in html
    assert "http://lab.example.com/v1/webhooks/inbox/hello" in html


def test_a_filter_that_finds_nothing_says_so(console):
    html = console.get(page("inbox.webhook", "changelist"), {"q": "nothing"}).content.decode()

    assert "Nothing matches" in html
    assert "/v1/webhooks/inbox/hello" not in html


def test_a_busy_lab_shows_its_failures_within_12_queries(member, django_assert_max_num_queries):
    run = WorkflowExecutionFactory(status="failed", error_message="http.503 from the shop")
    TaskExecutionFactory.create_batch(3, status="timeout", task=ScheduledTaskFactory(name="nightly export"))
    SourceFactory(name="open-door")

    with django_assert_max_num_queries(MAX_QUERIES):
        html = member.get(reverse("admin:index")).content.decode()

    assert run.workflow.name in html
    assert "http.503 from the shop" in html
    assert "3 failed" in html
    assert "open-door" in html
    assert "Send the first webhook" not in html


def test_the_overview_leads_to_the_runs_that_it_counts_as_failed(console):
    export = ScheduledTaskFactory(name="nightly export")
    TaskExecutionFactory(status="timeout", task=export)
    TaskExecutionFactory(status="failed", task=export)
    TaskExecutionFactory(status="success", task=export)

    overview = console.get(reverse("admin:index")).context["overview"]
    card = next(card for card in overview["cards"] if card.title == "Failed task runs")
    trouble = next(trouble for trouble in overview["troubles"] if trouble.title == "nightly export")

    assert card.value == "2"
    assert [console.get(found.url).context["cl"].result_count for found in (card, trouble)] == [2, 2]


def test_the_overview_names_the_schedules_that_are_set_aside(console):
    WorkflowFactory(name="payroll", schedule_error="Mars/Base is not a time zone")
    ScheduledTaskFactory(name="export", schedule_error="never fires")

    html = console.get(reverse("admin:index")).content.decode()

    assert all(text in html for text in ("payroll", "Mars/Base is not a time zone", "export", "never fires"))


def test_the_overview_shows_only_what_the_user_may_see(client):
    WorkflowExecutionFactory(status="failed", workflow=WorkflowFactory(name="payroll"))
    client.force_login(User.objects.create(username="guest", is_staff=True), backend=BACKEND)

    html = client.get(reverse("admin:index")).content.decode()

    assert "payroll" not in html
    assert page("workflows.workflow", "changelist") not in html


def test_an_open_api_is_said_on_every_page(console, settings):
    settings.API_OPEN = True

    assert b"The API is open." in console.get(reverse("admin:index")).content
    assert b"The API is open." in console.get(page("inbox.webhook", "changelist")).content


def test_a_closed_api_shows_no_banner(console):
    assert b"The API is open." not in console.get(reverse("admin:index")).content


def test_the_sidebar_leads_to_the_tables_that_a_viewer_may_see(client):
    user = User.objects.create(username="viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="viewer"))
    client.force_login(user, backend=BACKEND)

    html = client.get(reverse("admin:index")).content.decode()

    assert page("inbox.webhook", "changelist") in html
    assert page("auth.user", "changelist") not in html


# --- one correlation id, search ---------------------------------------------------------------------------------------


def test_a_trace_shows_what_happened_under_one_correlation_id(console, django_assert_max_num_queries):
    webhook = WebhookFactory(correlation_id="c-1")
    run = WorkflowExecutionFactory(correlation_id="c-1", webhook=webhook)
    log = ApiLogFactory(correlation_id="c-1", path="/v1/webhooks/inbox/github")
    other = WorkflowExecutionFactory(correlation_id="c-2")

    with django_assert_max_num_queries(MAX_QUERIES):
        html = console.get(reverse("admin:trace", args=["c-1"])).content.decode()

    assert page("inbox.webhook", "change", webhook.pk) in html
    assert page("workflows.workflowexecution", "change", run.pk) in html
    assert page("apilogs.apilog", "change", log.pk) in html
    assert page("workflows.workflowexecution", "change", other.pk) not in html


def test_a_trace_is_for_signed_in_users(client):
    assert client.get(reverse("admin:trace", args=["c-1"])).status_code == 302


def test_a_trace_escapes_its_id(console):
    response = console.get(reverse("admin:trace", args=["<script>alert(1)</script>"]))

    assert b"<script>alert" not in response.content


def test_a_trace_of_what_no_id_can_be_is_empty(console):
    response = console.get("/admin/trace/%00/")

    assert response.status_code == 200
    assert b"nothing is stored under it" in response.content


def test_the_search_finds_names_and_correlation_ids(console):
    task = ScheduledTaskFactory(name="Nightly export")
    run = WorkflowExecutionFactory(correlation_id="c-77")

    by_name = console.get(reverse("admin:search"), {"s": "nightly", "extended": 1}).content.decode()
    by_id = console.get(reverse("admin:search"), {"s": "c-77", "extended": 1}).content.decode()

    assert page("tasks.scheduledtask", "change", task.pk) in by_name
    assert page("workflows.workflowexecution", "change", run.pk) in by_id


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_no_page_shows_a_secret_or_its_ciphertext(console):
    secret = SecretFactory(value="canary-plain-value-9f4f", last4="9f4f")
    channel = NotificationChannelFactory(target_hint="https://hooks.example.com/…")
    source = SourceFactory(scheme="github", secrets=[{"ciphertext": "canary-cipher", "last4": "4f4f"}])
    wait = WaitTokenFactory()
    token, plain = tokens.create_token(user=User.objects.get(username="root"), name="ci", expires_at=None)
    hidden = ["canary-plain-value", secret.ciphertext, channel.target_ciphertext, "canary-cipher", wait.token_hash]
    hidden += [plain, token.digest]
    rows = {
        "tasks.secret": secret,
        "tasks.notificationchannel": channel,
        "inbox.source": source,
        "workflows.waittoken": wait,
        "automation_lab.apitoken": token,
    }

    for label, row in rows.items():
        urls = [page(label, "changelist"), *(page(label, name, key_of(row)) for name in ("change", "history"))]
        for url in urls:
            html = console.get(url).content.decode()
            assert [value for value in hidden if value in html] == [], url


def test_a_new_token_is_shown_once_and_works(console, client):
    data = {"name": "ci", "user": User.objects.get(username="root").pk, "scopes": ["inbox:read"]}

    response = console.post(page("automation_lab.apitoken", "add"), {**data, "expiry_0": "", "expiry_1": ""})

    token = ApiToken.objects.get(name="ci")
    plain = re.search(r"lab_[0-9a-f]{20,}", response.content.decode())[0]
    assert token.token_key == plain[:15]
    assert token.scopes == ["inbox:read"]
    assert plain not in console.get(page("automation_lab.apitoken", "change", tokens.public_id(token))).content.decode()


def test_a_token_is_revoked_and_leaves_an_audit_entry_without_its_digest(console):
    token, _ = tokens.create_token(user=User.objects.get(username="root"), name="ci", expires_at=None)

    console.post(page("automation_lab.apitoken", "delete", tokens.public_id(token)), {"post": "yes"})

    assert not ApiToken.objects.exists()
    entry = admin.models.LogEntry.objects.get()
    assert (entry.object_id, entry.is_deletion()) == (tokens.public_id(token), True)


def test_a_token_of_somebody_else_is_not_listed_for_others_than_superusers(member):
    tokens.create_token(user=User.objects.create(username="owner"), name="of-the-owner", expires_at=None)

    assert b"of-the-owner" not in member.get(page("automation_lab.apitoken", "changelist")).content


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_member_of_the_admin_group_cannot_make_a_superuser(member):
    person = User.objects.create(username="person", is_staff=True)
    form = member.get(page("auth.user", "change", person.pk)).context["adminform"].form

    member.post(page("auth.user", "change", person.pk), {**form.initial, "is_superuser": "on", "groups": []})

    person.refresh_from_db()
    assert not person.is_superuser


def test_a_member_of_the_admin_group_cannot_delete_a_superuser_from_the_list(member):
    root = User.objects.create_superuser("boss", password="x")
    person = User.objects.create(username="person")

    for user in (root, person):
        chosen = {"action": "delete_selected", "_selected_action": [user.pk], "post": "yes"}
        member.post(page("auth.user", "changelist"), chosen)

    assert set(User.objects.values_list("username", flat=True)) == {"boss", "member"}


def test_nobody_locks_themselves_out(console):
    root = User.objects.get(username="root")

    console.post(page("auth.user", "change", root.pk), {"username": "root", "first_name": "Ann"})
    deleted = console.post(page("auth.user", "delete", root.pk), {"post": "yes"})

    root.refresh_from_db()
    assert (root.first_name, root.is_active, root.is_staff, root.is_superuser) == ("Ann", True, True, True)
    assert deleted.status_code == 403


def test_a_member_of_the_admin_group_cannot_change_a_superuser(member):
    root = User.objects.create_superuser("boss", password="x")

    response = member.post(page("auth.user", "change", root.pk), {"username": "mine"})

    assert response.status_code == 403


# --- histories --------------------------------------------------------------------------------------------------------

READ_ONLY = [
    "tasks.taskexecution",
    "tasks.taskattempt",
    "tasks.tasklog",
    "workflows.workflowversion",
    "workflows.workflowexecution",
    "workflows.stepexecution",
    "workflows.stepattempt",
    "workflows.workflowlog",
    "workflows.waittoken",
    "apilogs.apilog",
    "apilogs.apiloghour",
    "apilogs.apilogdrop",
    "tasks.notification",
    "inbox.forward",
    "inbox.forwardattempt",
    "inbox.replay",
    "inbox.ratewindow",
    "admin.logentry",
    "procrastinate.procrastinatejob",
]


@pytest.mark.parametrize("label", READ_ONLY)
def test_a_history_refuses_every_change(console, label):
    row = ROWS[label](1)[0]
    before = type(row)._base_manager.values().get(pk=row.pk)

    assert console.post(page(label, "change", row.pk), {"status": "success", "text": "x"}).status_code == 403
    assert console.post(page(label, "add"), {}).status_code == 403
    if label != "apilogs.apilog":
        assert console.post(page(label, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert type(row)._base_manager.values().get(pk=row.pk) == before


def test_a_list_counts_to_10000_and_says_that_there_are_more(console):
    WebhookFactory._meta.model.objects.bulk_create(WebhookFactory.build_batch(10_001))

    response = console.get(page("inbox.webhook", "changelist"))

    assert response.context["cl"].result_count == 10_000
    assert re.search(rb"more than\s+10000", response.content)


def test_deleting_many_rows_at_once_is_capped(console):
    logs = ROWS["apilogs.apilog"](1001)
    data = {"action": "delete_selected", "select_across": 1, "_selected_action": [logs[0].pk], "post": "yes"}

    console.post(page("apilogs.apilog", "changelist"), data)

    assert type(logs[0]).objects.count() == 1001


def test_actions_are_run_by_post_only(console):
    run = WorkflowExecutionFactory()

    response = console.get(reverse("admin:workflows_workflowexecution_cancel", args=[run.pk]))

    assert response.status_code == 200
    assert WorkflowExecution.objects.get().status == "pending"


def _root():
    """A request of somebody who may do everything that is allowed at all."""
    from django.test import RequestFactory

    request = RequestFactory().get("/")
    request.user = User(is_superuser=True, is_active=True)
    return request
