"""The list of webhooks in the console, and the page of one: what they show, what they let whom do."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import reverse
from django.utils import timezone

from automation_lab.core import crypto
from inbox.models import Forward, Replay, SavedView, Webhook
from inbox.replaying import replays
from inbox.tests.factories import SourceFactory, WebhookFactory
from workflows.models import WorkflowExecution
from workflows.tests.factories import WorkflowExecutionFactory, WorkflowFactory, WorkflowVersionFactory

CANARY = "<script>alert('canary')</script><img src=x onerror=alert(1)>"
BACKEND = "django.contrib.auth.backends.ModelBackend"
MAX_QUERIES = 12
CONFIRMED = {"_form_submitted": "True"}

pytestmark = pytest.mark.django_db


def page(name, *args, model="webhook"):
    return reverse(f"admin:inbox_{model}_{name}", args=args)


def ids_of(response):
    return [webhook.pk for webhook in response.context["cl"].result_list]


def told(response):
    return [str(message) for message in response.context["messages"]]


# --- the list ---------------------------------------------------------------------------------------------------------


def test_a_row_tells_first_line_size_runs_and_forwards(console):
    webhook = WebhookFactory(raw_body=b'\n  {"ref":\n "refs/heads/main"}', size_bytes=7_100)
    WorkflowExecutionFactory(webhook=webhook, status="success")
    WorkflowExecutionFactory(webhook=webhook, status="failed")
    Forward.objects.create(webhook=webhook, target="https://example.com", status="failed", attempt=5)

    shown = console.get(page("changelist")).content.decode()

    assert "{&quot;ref&quot;:" in shown
    assert "7.1\u00a0kB" in shown
    assert "1 of 2 failed" in shown
    assert "5 tries" in shown


def test_the_list_needs_the_same_few_queries_for_one_row_and_for_fifty(as_role, django_assert_max_num_queries):
    client = as_role("operator")
    webhooks = WebhookFactory.create_batch(50)
    for webhook in webhooks:
        WorkflowExecutionFactory(webhook=webhook)
        Forward.objects.create(webhook=webhook, target="https://example.com")

    with django_assert_max_num_queries(MAX_QUERIES):
        client.get(page("changelist"))


def test_a_long_source_and_event_are_cut_by_their_columns_and_whole_on_hover(console):
    WebhookFactory(source="s" * 64, event_type="e" * 120)

    shown = console.get(page("changelist")).content.decode()

    assert f'<span class="lab-clip" title="{"s" * 64}">' in shown
    assert f'<span class="lab-clip" title="{"e" * 120}">' in shown


def test_a_body_that_is_no_text_is_named_binary(console):
    WebhookFactory(raw_body=b"\x00\x01\x02")

    assert b"binary" in console.get(page("changelist")).content


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("body.action=opened", 0),
        ("header.X-GitHub-Event=push", 1),
        ("event_type=issues", 0),
        ("method=PUT", 1),
        ("status=failed", 1),
        ("is_duplicate=false&flag=conflict", 0),
        ("received_before=2200-01-01T00:00", None),
        ("q=d-7", 1),
    ],
)
def test_the_list_is_filtered_by_the_names_of_the_api(console, query, found):
    opened = WebhookFactory(body={"action": "opened"}, event_type="issues", flags=["conflict"])
    other = WebhookFactory(
        headers=[["X-Github-Event", "push"]], method="PUT", status="failed", delivery_id="d-7", body={"action": "x"}
    )

    ids = ids_of(console.get(f"{page('changelist')}?{query}"))

    assert ids == ([other.pk, opened.pk] if found is None else [(opened, other)[found].pk])


def test_the_search_finds_text_in_bodies_when_no_id_is_like_it(console):
    match = WebhookFactory(raw_body=b'{"name": "needle in hay"}')
    WebhookFactory(raw_body=b"{}")

    assert ids_of(console.get(page("changelist"), {"q": "needle in"})) == [match.pk]


def test_a_condition_from_the_form_gets_its_own_place_in_the_address(console):
    response = console.get(page("changelist"), {"where": " body.action=opened ", "source": "github"})

    assert response.status_code == 302
    assert parse_qs(urlsplit(response["Location"]).query) == {"source": ["github"], "body.action": ["opened"]}


def test_a_condition_that_means_nothing_is_explained(console):
    response = console.get(page("changelist"), {"where": "action is opened"}, follow=True)

    assert told(response) == ["Write a condition like body.action=opened or header.X-GitHub-Event=push."]


@pytest.mark.parametrize("query", ["received_after=yesterday", "header.Authorization=x", "body.=x", "status=odd"])
def test_a_filter_that_cannot_be_says_why_and_finds_nothing(console, query):
    WebhookFactory()

    response = console.get(f"{page('changelist')}?{query}")

    assert response.status_code == 200
    assert ids_of(response) == []
    assert len(told(response)) == 1


def test_filters_that_are_set_can_be_removed_one_by_one(console):
    response = console.get(f"{page('changelist')}?source=github&body.action=opened")

    shown = {condition.text: condition.url for condition in response.context["cl"].conditions_shown}
    assert shown == {"source=github": "?body.action=opened", "body.action=opened": "?source=github"}


def test_own_and_shared_views_stand_above_the_list_and_the_current_one_is_marked(console):
    other = User.objects.create(username="other")
    SavedView.objects.create(name="Mine", query="source=github", owner=User.objects.get(username="root"))
    SavedView.objects.create(name="Shared", query="status=failed&source=x", owner=other, shared=True)
    SavedView.objects.create(name="Hidden", query="", owner=other)

    views = console.get(f"{page('changelist')}?source=github").context["cl"].views

    assert [view.title for view in views] == ["All", "Failed", "Rejected", "Repetitions", "Mine", "Shared"]
    assert [view.title for view in views if view.is_current] == ["Mine"]


def test_a_view_is_saved_from_the_list_and_leads_back_to_it(console):
    listed = console.get(f"{page('changelist')}?source=github&body.action=opened")
    link = re.search(r'href="([^"]*savedview/add/[^"]*)"', listed.content.decode())[1].replace("&amp;", "&")
    form = console.get(link).context["adminform"].form

    response = console.post(link, {"name": "Opened", "query": form.initial["query"], "shared": "on"})

    view = SavedView.objects.get()
    assert (view.query, view.owner.username, view.shared) == ("source=github&body.action=opened", "root", True)
    assert response["Location"] == f"{page('changelist')}?source=github&body.action=opened"


@pytest.mark.parametrize("query", ["colour=red", "source=github&source=gitlab", "header.Authorization=x", "source="])
def test_a_view_of_an_impossible_query_is_refused_at_its_field(console, query):
    response = console.post(page("add", model="savedview"), {"name": "x", "query": query})

    assert "query" in response.context["adminform"].form.errors
    assert not SavedView.objects.exists()


def test_a_second_view_of_one_name_is_refused(console):
    SavedView.objects.create(name="Mine", owner=User.objects.get(username="root"))

    response = console.post(page("add", model="savedview"), {"name": "Mine", "query": ""})

    assert "name" in response.context["adminform"].form.errors


def test_a_shared_view_of_somebody_else_is_seen_but_not_changed(as_role):
    view = SavedView.objects.create(name="Shared", owner=User.objects.create(username="other"), shared=True)
    hidden = SavedView.objects.create(name="Hidden", owner=view.owner)
    client = as_role("operator")

    assert client.get(page("change", view.pk, model="savedview")).status_code == 200
    assert client.post(page("change", view.pk, model="savedview"), {"name": "x", "query": ""}).status_code == 403
    assert client.post(page("delete", view.pk, model="savedview"), {"post": "yes"}).status_code == 403
    assert client.get(page("change", hidden.pk, model="savedview")).status_code == 302
    assert SavedView.objects.count() == 2


def test_the_exports_have_the_filters_of_the_list(console):
    WebhookFactory(source="github", body={"action": "opened"})
    WebhookFactory(source="gitlab")

    exports = dict(console.get(f"{page('changelist')}?source=github&body.action=opened").context["cl"].exports)
    ndjson = b"".join(console.get(exports["ndjson"]).streaming_content).splitlines()

    assert set(exports) == {"csv", "json", "ndjson", "curl"}
    assert len(ndjson) == 1
    assert b'"source":"github"' in ndjson[0].replace(b" ", b"")


def test_a_chosen_day_is_part_of_the_export(console):
    webhook = WebhookFactory()
    day = webhook.received_at
    query = f"received_at__year={day.year}&received_at__month={day.month}&received_at__day={day.day}"

    response = console.get(f"{page('changelist')}?{query}")

    exported = b"".join(console.get(dict(response.context["cl"].exports)["ndjson"]).streaming_content)
    assert ids_of(response) == [webhook.pk]
    assert len(exported.splitlines()) == 1


@pytest.mark.parametrize("query", ["received_at__year=9999", "received_at__year=99999", "received_at__year=x"])
def test_a_year_that_cannot_be_is_no_server_error(console, query):
    assert console.get(f"{page('changelist')}?{query}").status_code == 302


def test_what_was_found_by_an_id_has_no_export(console):
    WebhookFactory(delivery_id="d-1")

    assert console.get(page("changelist"), {"q": "d-1"}).context["cl"].exports == []


def test_the_list_of_rejected_says_why_and_what_to_do(console):
    WebhookFactory(status="rejected", verification="no_secret")

    shown = console.get(page("changelist"), {"status": "rejected"}).content.decode()

    assert "no secret" in shown
    assert "Set the secret of the source, then verify again." in shown


def test_an_opened_row_shows_headers_and_the_start_of_the_body(console, django_assert_max_num_queries):
    webhook = WebhookFactory(
        headers=[["Authorization", "Bearer canary"], ["X-GitHub-Event", "push"]],
        raw_body=b"x" * 20_000,
        size_bytes=20_000,
    )

    with django_assert_max_num_queries(MAX_QUERIES):
        shown = console.get(page("preview", webhook.pk)).content.decode()

    assert "X-GitHub-Event" in shown
    assert "canary" not in shown
    assert shown.count("x" * 4_000) == 1
    assert len(shown) < 8_000


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("replay", "Replay selected webhooks"), ("forward", "to send it to an address"), ("savedview", "Save this view")],
)
def test_an_empty_list_teaches_how_it_is_filled(console, model, sentence):
    assert sentence in console.get(page("changelist", model=model)).content.decode()


# --- hostile senders --------------------------------------------------------------------------------------------------


def test_nothing_that_a_sender_wrote_becomes_markup(console):
    webhook = WebhookFactory(
        source="github",
        status="rejected",
        verification="mismatch",
        event_type=CANARY,
        method="<B>",
        path=f"/v1/webhooks/inbox/github/{CANARY}",
        query_string=CANARY,
        query_params=[[CANARY, CANARY]],
        headers=[[CANARY, CANARY], ["User-Agent", CANARY]],
        body={CANARY: [{"a.b": CANARY}], "<b>": 1},
        raw_body=CANARY.encode(),
        content_type=CANARY,
        delivery_id=CANARY,
        duplicate_count=1,
        flags=["<b>"],
    )
    WebhookFactory(is_duplicate=True, duplicate_of=webhook, delivery_id=CANARY)
    urls = [
        page("changelist"),
        f"{page('changelist')}?status=rejected",
        f"{page('changelist')}?body.x=%3Cscript%3Ealert%3C/script%3E&q={CANARY}",
        page("change", webhook.pk),
        page("preview", webhook.pk),
        page("replay", webhook.pk),
    ]

    for url in urls:
        shown = console.get(url).content.decode()
        assert "<script>alert" not in shown, url
        assert "<img src=x" not in shown, url
        assert "<b>" not in shown.lower(), url


def test_no_credential_of_a_request_is_shown_or_copied(console):
    webhook = WebhookFactory(
        headers=[["Authorization", "Bearer canary-a"], ["X-Api-Key", "canary-b"], ["Cookie", "session=canary-c"]],
        query_string="token=canary-d&page=2",
        query_params=[["token", "canary-d"], ["page", "2"]],
    )

    shown = console.get(page("change", webhook.pk)).content.decode()

    assert "canary" not in shown
    assert "page=2" in shown


def test_a_signature_is_shown_as_it_came(console):
    webhook = WebhookFactory(headers=[["X-Hub-Signature-256", "sha256=0123456789abcdef"]])

    assert b"sha256=0123456789abcdef" in console.get(page("change", webhook.pk)).content


# --- one webhook ------------------------------------------------------------------------------------------------------


def test_the_command_has_the_real_address_and_leaves_credentials_out(console):
    webhook = WebhookFactory(
        path="/v1/webhooks/inbox/github/x",
        query_string="a=1",
        headers=[["Content-Type", "application/json"], ["Authorization", "Bearer canary"], ["Host", "h"]],
        raw_body=b'{"it\'s": 1}',
    )

    shown = console.get(page("change", webhook.pk), headers={"host": "lab.example.com"}).content.decode()

    command = re.search(r"<pre[^>]*>(curl [^<]*)</pre>", shown)[1]
    assert command.startswith("curl -X POST &#x27;http://lab.example.com/v1/webhooks/inbox/github/x?a=1&#x27;")
    assert "Content-Type: application/json" in command
    assert "Authorization" not in command
    assert "Host" not in command


def test_a_binary_body_is_named_as_a_file_in_the_command(console):
    webhook = WebhookFactory(raw_body=b"\x00\xff")

    assert f"--data-binary @webhook-{webhook.pk}.bin" in console.get(page("change", webhook.pk)).content.decode()


def test_a_command_reads_no_file_that_a_sender_names(console):
    webhook = WebhookFactory(path="/v1/webhooks/inbox/a b", query_string="token=canary", raw_body=b"@/etc/passwd")

    shown = text(console, webhook)

    assert "--data-raw @/etc/passwd" in shown
    assert "/v1/webhooks/inbox/a%20b?token=[redacted]" in shown
    assert "--globoff" in shown


def test_each_key_of_the_body_copies_its_path(console):
    webhook = WebhookFactory(
        body={"repository": {"full_name": "octo/x"}}, raw_body=b'{"repository": {"full_name": "octo/x"}}'
    )

    assert 'data-copy-text="body.repository.full_name"' in console.get(page("change", webhook.pk)).content.decode()


def test_the_page_of_a_webhook_is_cheap(as_role, django_assert_max_num_queries):
    webhook = WebhookFactory(duplicate_count=2, source=SourceFactory().name)
    for number in range(30):
        WorkflowExecutionFactory(webhook=webhook)
        Forward.objects.create(webhook=webhook, target=f"https://example.com/{number}")
    client = as_role("operator")

    with django_assert_max_num_queries(MAX_QUERIES):
        client.get(page("change", webhook.pk))


def test_what_it_set_off_is_linked_with_answers_and_marks(console):
    webhook = WebhookFactory(duplicate_count=1, correlation_id="c-1", sha256="a" * 64)
    run = WorkflowExecutionFactory(webhook=webhook, trigger_source="replay_edited")
    forward = Forward.objects.create(
        webhook=webhook, target="https://example.com", mode="edited", answer={"status": 418}, status="failed"
    )
    repeat = WebhookFactory(is_duplicate=True, duplicate_of=webhook, sha256="b" * 64)

    shown = console.get(page("change", webhook.pk)).content.decode()

    assert reverse("admin:workflows_workflowexecution_change", args=[run.pk]) in shown
    assert "edited body" in shown
    assert page("change", forward.pk, model="forward") in shown
    assert "418" in shown
    assert page("change", repeat.pk) in shown
    assert "other body" in shown
    assert reverse("admin:trace", args=["c-1"]) in shown


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"status": "rejected"}, "A rejected webhook starts nothing"),
        ({"flags": ["handshake"]}, "A handshake starts nothing."),
        ({"is_duplicate": True}, "A repetition starts nothing"),
        ({"source": "github", "event_type": "push"}, 'would: {"source":"github","event_type":"push"}'),
    ],
)
def test_why_it_started_nothing_is_said(console, values, sentence):
    assert sentence in html.unescape(text(console, WebhookFactory(**values)))


def test_a_body_that_was_removed_is_no_empty_one(console):
    webhook = WebhookFactory(flags=["payload_removed"], raw_body=b"")

    assert "removed by the retention of its source" in text(console, webhook)
    assert "removed by the retention of its source" in console.get(page("preview", webhook.pk)).content.decode()
    assert page("verify_again", webhook.pk) not in text(console, webhook)


@pytest.mark.parametrize(("count", "words"), [(1, "repeated once"), (2, "repeated 2 times")])
def test_a_repeated_one_tells_how_often(console, count, words):
    WebhookFactory(duplicate_count=count)

    assert words in console.get(page("changelist")).content.decode()


def test_the_secret_that_matched_is_named(console):
    shown = text(console, WebhookFactory(verification="verified", matched_secret="s1"))

    assert 'Matched the secret <span class="lab-mono">s1</span>.' in shown


def test_a_refusal_is_explained_with_what_to_do(console):
    webhook = WebhookFactory(status="rejected", verification="stale")

    shown = console.get(page("change", webhook.pk)).content.decode()

    assert "older than" in shown
    assert "Raise the tolerance only if the sender repeats old requests." in shown


# --- verify again -----------------------------------------------------------------------------------------------------


def rejected_by_token(token):
    secret = crypto.encrypt("the-right-token-123", bind="source:shop")
    SourceFactory(name="shop", scheme="token", secrets=[{"id": "s1", "ciphertext": secret}])
    headers = [["Authorization", f"Bearer {token}"]]
    return WebhookFactory(source="shop", status="rejected", verification="mismatch", headers=headers)


def test_verifying_again_tells_what_does_not_match(console):
    webhook = rejected_by_token("the-wrong-token")

    response = console.post(page("verify_again", webhook.pk), CONFIRMED, follow=True)

    webhook.refresh_from_db()
    assert webhook.status == "rejected"
    assert "Signature does not match" in told(response)[0]
    assert "The signature does not belong to this body and these secrets." in told(response)[0]
    assert "the-right-token" not in response.content.decode()


def test_verifying_again_accepts_what_is_right_now_and_leaves_an_audit_entry(console):
    webhook = rejected_by_token("the-right-token-123")

    response = console.post(page("verify_again", webhook.pk), CONFIRMED, follow=True)

    webhook.refresh_from_db()
    assert (webhook.status, webhook.verification) == ("received", "verified")
    assert "It verifies with the secret s1." in told(response)[0]
    assert LogEntry.objects.get().get_change_message() == "Verified again and accepted."


def test_opening_a_dialog_or_page_changes_nothing(console):
    webhook = rejected_by_token("the-right-token-123")
    before = Webhook.objects.values().get()

    for name in ("verify_again", "confirm_subscription", "replay", "change", "preview"):
        assert console.get(page(name, webhook.pk)).status_code == 200, name

    assert Webhook.objects.values().get() == before
    assert not Replay.objects.exists()
    assert not LogEntry.objects.exists()


def test_a_viewer_can_neither_verify_nor_confirm_nor_replay(as_role):
    webhook = rejected_by_token("the-right-token-123")
    client = as_role("viewer")

    for name in ("verify_again", "confirm_subscription", "replay"):
        assert client.post(page(name, webhook.pk), {"target": "workflows", "key": "k"}).status_code == 403, name
    shown = client.get(page("change", webhook.pk)).content.decode()

    assert page("replay", webhook.pk) not in shown
    webhook.refresh_from_db()
    assert webhook.status == "rejected"


def test_only_an_open_subscription_of_sns_can_be_confirmed(console):
    asks = {"Type": "SubscriptionConfirmation"}
    waiting = WebhookFactory(body=asks, flags=["handshake"])
    done = WebhookFactory(body=asks, flags=["confirmed", "handshake"])
    other = WebhookFactory(body={})

    offered = [page("confirm_subscription", row.pk) in text(console, row) for row in (waiting, done, other)]

    assert offered == [True, False, False]


def test_a_subscription_that_cannot_be_confirmed_says_why(console):
    webhook = WebhookFactory(body={"Type": "SubscriptionConfirmation"}, flags=["handshake"])

    response = console.post(page("confirm_subscription", webhook.pk), CONFIRMED, follow=True)

    assert told(response) == ["This is not a verified SubscriptionConfirmation of SNS."]


def text(client, webhook):
    return client.get(page("change", webhook.pk)).content.decode()


# --- replay one -------------------------------------------------------------------------------------------------------


def matching_workflow():
    config = {"trigger_type": "webhook", "trigger_config": {"source": "github"}}
    return WorkflowVersionFactory(workflow=WorkflowFactory(**config), **config).workflow


def test_a_webhook_is_sent_again_to_the_workflows_that_it_matches(console):
    workflow = matching_workflow()
    webhook = WebhookFactory(source="github", body={"a": 1})

    response = console.post(page("replay", webhook.pk), {"target": "workflows", "key": "k1"}, follow=True)

    run = WorkflowExecution.objects.get()
    assert (run.workflow, run.webhook, run.trigger_source) == (workflow, webhook, "replay")
    assert told(response) == [f"Sent again: replay #{Replay.objects.get().pk}."]
    assert Replay.objects.get().created_by == "root"
    assert LogEntry.objects.get().is_addition()


def test_the_page_of_a_replay_says_what_it_is_and_leads_back(console):
    webhook = WebhookFactory()

    one = console.get(page("replay", webhook.pk)).content.decode()
    many = choose(console, [webhook]).content.decode()

    assert f"<h1>Replay webhook #{webhook.pk}</h1>" in one
    assert one.count(f'href="{page("change", webhook.pk)}"') >= 2  # among them the path in the header
    assert "<h1>Replay webhooks</h1>" in many


def test_sending_the_same_form_twice_replays_once(console):
    matching_workflow()
    webhook = WebhookFactory(source="github")

    for _ in range(2):
        console.post(page("replay", webhook.pk), {"target": "workflows", "key": "k1"})

    assert WorkflowExecution.objects.count() == 1


def test_another_order_from_a_page_that_was_used_before_is_taken_at_the_second_try(console):
    matching_workflow()
    webhook = WebhookFactory(source="github")
    console.post(page("replay", webhook.pk), {"target": "workflows", "key": "k1"})
    edited = {"target": "workflows", "edited": "on", "body": "{}"}

    refused = console.post(page("replay", webhook.pk), {**edited, "key": "k1"})
    key = refused.context["form"]["key"].value()
    console.post(page("replay", webhook.pk), {**edited, "key": key})

    assert "Idempotency-Key" in str(refused.context["form"].non_field_errors())
    assert WorkflowExecution.objects.filter(trigger_source="replay_edited").count() == 1


def test_an_edited_body_goes_to_a_chosen_workflow_and_is_marked(console):
    workflow = WorkflowVersionFactory().workflow
    webhook = WebhookFactory(body={"a": 1})
    data = {"target": "workflow", "workflow": workflow.pk, "edited": "on", "body": '{"a":\r\n 2}', "key": "k1"}

    console.post(page("replay", webhook.pk), data)

    run = WorkflowExecution.objects.get()
    assert (run.trigger_source, run.trigger_data) == ("replay_edited", {"a": 2})


@pytest.mark.parametrize(
    "sent", [b'{"z": 1.10, "a": 1,\n "z":12345678901234567890123}', b"[1,\r\n 2]\r\n", b"<a>\n</a>"]
)
def test_an_edited_body_begins_as_the_bytes_that_came(console, settings, sent):
    settings.OUTBOUND_ALLOW = "127.0.0.1:9000"
    webhook = WebhookFactory(raw_body=sent, body={"a": 1})
    url = page("replay", webhook.pk)

    field = console.get(url).context["form"]["body"].value()
    typed = re.sub("\r?\n", "\r\n", field)  # as browsers send it
    console.post(url, {"target": "url", "url": "http://127.0.0.1:9000/", "edited": "on", "body": typed, "key": "k1"})

    assert Replay.objects.get().options["body"].encode() == sent


def test_an_edited_body_that_is_no_json_is_refused_at_its_field(console):
    workflow = WorkflowVersionFactory().workflow
    webhook = WebhookFactory()
    data = {"target": "workflow", "workflow": workflow.pk, "edited": "on", "body": "{oops", "key": "k1"}

    response = console.post(page("replay", webhook.pk), data)

    assert "body" in response.context["form"].errors
    assert not WorkflowExecution.objects.exists()


def test_a_webhook_is_sent_to_an_address_with_the_body_as_it_was(console, settings):
    settings.OUTBOUND_ALLOW = "127.0.0.1:9000"
    webhook = WebhookFactory()
    data = {"target": "url", "url": "http://127.0.0.1:9000/hook", "key": "k1", "body": "not sent", "signing": "on"}

    console.post(page("replay", webhook.pk), data)

    forward = Forward.objects.get()
    assert (forward.target, forward.mode, forward.status) == ("http://127.0.0.1:9000/hook", "resigned", "pending")


def test_an_address_that_is_not_allowed_is_refused_at_its_field(console):
    webhook = WebhookFactory()

    response = console.post(
        page("replay", webhook.pk), {"target": "url", "url": "http://169.254.169.254/", "key": "k1"}
    )

    assert "url" in response.context["form"].errors
    assert not Forward.objects.exists()


def test_a_rejected_webhook_starts_no_workflow(console):
    matching_workflow()
    webhook = WebhookFactory(source="github", status="rejected")

    response = console.post(page("replay", webhook.pk), {"target": "workflows", "key": "k1"})

    assert "A rejected webhook starts no workflow" in str(response.context["form"].non_field_errors())
    assert not Replay.objects.exists()


def test_only_targets_of_which_the_user_has_the_permission_are_offered(client):
    user = User.objects.create(username="limited", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_webhook", "add_forward"]))
    client.force_login(user, backend=BACKEND)
    webhook = WebhookFactory(source="github")
    matching_workflow()

    form = client.get(page("replay", webhook.pk)).context["form"]
    response = client.post(page("replay", webhook.pk), {"target": "workflows", "key": "k1"})

    assert [value for value, _ in form.fields["target"].choices] == ["url"]
    assert "target" in response.context["form"].errors
    assert not WorkflowExecution.objects.exists()


# --- replay many ------------------------------------------------------------------------------------------------------


def choose(console, webhooks, **data):
    chosen = {"action": "replay_selected", "_selected_action": [webhook.pk for webhook in webhooks]}
    return console.post(page("changelist"), {**chosen, **data})


def test_a_selection_is_counted_before_anything_is_sent(console):
    webhooks = [*WebhookFactory.create_batch(2), WebhookFactory(status="rejected"), WebhookFactory(is_duplicate=True)]

    response = choose(console, webhooks)

    shown = response.content.decode()
    assert "4 webhooks selected" in shown
    assert "1 of them was rejected" in shown
    assert "1 of them is a repetition" in shown
    assert not Replay.objects.exists()


def test_a_counted_selection_is_ordered_as_a_batch_without_the_rejected_ones(console):
    webhooks = [*WebhookFactory.create_batch(2), WebhookFactory(status="rejected")]
    order = {"ordered": "1", "target": "workflows", "rate_per_second": "5", "count": "3", "key": "k1"}

    response = choose(console, webhooks, **order)

    replay = Replay.objects.get()
    assert response["Location"] == page("change", replay.pk, model="replay")
    assert replay.webhook_ids == [webhook.pk for webhook in webhooks[:2]]
    assert (replay.status, replay.target, replay.rate_per_second) == ("pending", "workflows", 5)


def test_all_that_a_filter_finds_can_be_ordered(console):
    wanted = WebhookFactory.create_batch(3, source="github")
    WebhookFactory(source="gitlab")
    order = {"ordered": "1", "target": "workflows", "rate_per_second": "5", "count": "3", "key": "k1"}
    data = {"action": "replay_selected", "select_across": "1", "_selected_action": [wanted[0].pk], **order}

    console.post(f"{page('changelist')}?source=github", data)

    replay = Replay.objects.get()
    assert replay.webhook_ids == [webhook.pk for webhook in wanted]
    assert replay.filters == {"console": "source=github"}


@pytest.mark.parametrize(
    ("query", "count"),
    [("source=github", 1), ("source=github&flag=handshake", 1), ("source=github&is_duplicate=true", 1)],
)
def test_what_a_filter_finds_is_counted_as_the_api_counts_it(console, query, count):
    first = WebhookFactory(source="github")
    WebhookFactory(source="github", flags=["handshake"])
    WebhookFactory(source="github", status="rejected")
    WebhookFactory(source="github", is_duplicate=True)
    data = {"action": "replay_selected", "select_across": "1", "_selected_action": [first.pk]}
    order = {"target": "url", "url": "https://example.com/hook", "filter": dict(parse_qsl(query)), "dry_run": True}

    page_ = console.post(f"{page('changelist')}?{query}", data).content.decode()
    counted = console.post("/v1/webhooks/replays", order, content_type="application/json").json()

    assert f"{count} webhook selected" in page_
    assert "without rejected ones, handshakes and repetitions, unless it names them" in page_
    assert counted["count"] == count


def test_handshakes_that_were_ticked_go_to_addresses_only(console):
    webhooks = [WebhookFactory(), WebhookFactory(flags=["handshake"])]
    order = {"ordered": "1", "rate_per_second": "5", "count": "2"}
    address = {"target": "url", "url": "https://example.com/hook", "key": "k2"}

    shown = choose(console, webhooks).content.decode()
    choose(console, webhooks, **order, target="workflows", key="k1")
    choose(console, webhooks, **order, **address)

    assert "1 of them is a handshake: no workflow starts, so only an address gets it." in shown
    assert [replay.total_count for replay in Replay.objects.order_by("id")] == [1, 2]


def test_a_selection_that_has_changed_since_is_counted_again(console):
    webhooks = WebhookFactory.create_batch(2)
    order = {"ordered": "1", "target": "workflows", "rate_per_second": "5", "count": "3", "key": "k1"}

    response = choose(console, webhooks, **order)

    assert "The selection has changed meanwhile" in response.content.decode()
    assert 'name="count" value="2"' in response.content.decode()
    assert not Replay.objects.exists()


def test_too_many_webhooks_are_not_replayed_at_once(console, monkeypatch):
    monkeypatch.setattr(replays, "MOST_WEBHOOKS", 2)

    response = choose(console, WebhookFactory.create_batch(3))

    assert response.status_code == 302
    assert not Replay.objects.exists()


def test_a_replay_shows_how_far_it_is_and_is_stopped(console):
    matching_workflow()
    webhooks = WebhookFactory.create_batch(2, source="github")
    replay = replays.replay_webhooks(
        webhook_ids=[webhook.pk for webhook in webhooks], filters={}, target="workflows", options={}
    )
    url = page("change", replay.pk, model="replay")

    assert "0 of 2" in console.get(url).content.decode()
    assert console.get(page("stop", replay.pk, model="replay")).status_code == 200
    replay.refresh_from_db()
    assert replay.status == "pending"
    console.post(page("stop", replay.pk, model="replay"), CONFIRMED)

    replay.refresh_from_db()
    assert replay.status == "cancelled"


def test_a_replay_to_workflows_shows_its_runs(console):
    matching_workflow()
    webhook = WebhookFactory(source="github")
    WorkflowExecutionFactory(webhook=webhook)

    shown = console.post(page("replay", webhook.pk), {"target": "workflows", "key": "k1"}, follow=True)
    replay = Replay.objects.get()
    (panel,) = console.get(page("change", replay.pk, model="replay")).context["panels"]

    run = WorkflowExecution.objects.get(dedupe_key__startswith="replay:")
    assert shown.status_code == 200
    assert (panel.title, len(panel.rows)) == ("Workflow runs", 1)
    assert reverse("admin:workflows_workflowexecution_change", args=[run.pk]) in panel.rows[0][0]
    assert page("change", webhook.pk) in panel.rows[0][2]


def test_a_replay_tells_how_many_were_started_and_refused_and_why(console):
    replay = Replay.objects.create(
        status="failed",
        target="url",
        position=3,
        total_count=3,
        done_count=1,
        failed_count=2,
        error_message="Webhook 7 has been deleted.",
        finished_at=timezone.now(),
    )

    for url in (page("changelist", model="replay"), page("change", replay.pk, model="replay")):
        shown = console.get(url).content.decode()
        assert "1 started" in shown
        assert "2 refused" in shown
    assert "Webhook 7 has been deleted." in shown


def test_a_waiting_forward_is_cancelled(console):
    forward = Forward.objects.create(webhook=WebhookFactory(), target="https://example.com")

    console.post(page("cancel", forward.pk, model="forward"), CONFIRMED)

    forward.refresh_from_db()
    assert forward.status == "cancelled"


def test_a_viewer_is_offered_no_action_on_a_selection(as_role):
    webhooks = WebhookFactory.create_batch(2)
    client = as_role("viewer")

    choose(client, webhooks, ordered="1", target="workflows", rate_per_second="5", count="2", key="k1")

    assert not Replay.objects.exists()
