from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from automation_lab import tokens
from inbox import services
from inbox.models import Source, Webhook
from inbox.secrets import signing_secrets
from inbox.tests.factories import SourceFactory, WebhookFactory

pytestmark = pytest.mark.django_db
INBOX = "/v1/webhooks/inbox"
SOURCES = "/v1/webhooks/sources"


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_the_list_shows_the_newest_first_with_a_preview_instead_of_the_body(api):
    WebhookFactory(source="gitlab")
    webhook = WebhookFactory(raw_body=b'{"a": "' + b"x" * 1000 + b'"}', delivery_id="d-1")

    page = api.get(INBOX).json()

    assert page["count"] == 2
    assert [row["source"] for row in page["results"]] == ["github", "gitlab"]
    row = page["results"][0]
    assert (row["id"], row["delivery_id"], row["size_bytes"]) == (webhook.pk, "d-1", 1009)
    assert row["preview"] == '{"a": "' + "x" * 193
    assert not {"body", "raw_body", "headers"} & set(row)


def test_a_preview_may_be_cut_inside_a_character_or_be_no_text(api):
    WebhookFactory(raw_body=b"x" * 199 + "ü".encode())
    WebhookFactory(raw_body=bytes(range(256)))
    WebhookFactory(raw_body=b"")

    assert [len(row["preview"]) for row in api.get(INBOX).json()["results"]] == [0, 200, 200]


@pytest.mark.parametrize("size", [1, 20])
def test_the_list_costs_the_same_for_any_number_of_rows(api, django_assert_num_queries, size):
    first = WebhookFactory()
    WebhookFactory.create_batch(size - 1, is_duplicate=True, duplicate_of=first)
    api.get(INBOX)  # notes that the token is used

    with django_assert_num_queries(3):  # token, count, page
        assert len(api.get(INBOX).json()["results"]) == size


def test_the_list_does_not_read_the_bodies(api, django_assert_max_num_queries):
    WebhookFactory()

    with django_assert_max_num_queries(10) as captured:
        api.get(INBOX)

    page = captured.captured_queries[-1]["sql"]
    assert page.count('"raw_body"') == 1 == page.count('SUBSTRING("webhook_inbox"."raw_body", 1, 200)')
    assert '"webhook_inbox"."body"' not in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("source=github", [1]),
        ("event_type=push", [1]),
        ("status=failed", [2]),
        ("method=PUT", [2]),
        ("delivery_id=d-1", [1]),
        ("verification=mismatch", [2]),
        ("is_duplicate=true", [2]),
        ("is_duplicate=false", [1]),
        ("correlation_id=c-1", [1]),
        ("received_after={now}", [2]),
        ("received_before={now}", [1]),
        ("source=github&status=failed", []),
        ("ordering=received_at", [1, 2]),
        ("cursor=&ordering=-received_at", [2, 1]),
    ],
)
def test_the_list_is_filtered_and_ordered(api, query, found):
    now = timezone.now()
    WebhookFactory(
        pk=1, event_type="push", delivery_id="d-1", correlation_id="c-1", received_at=now - timedelta(days=1)
    )
    WebhookFactory(
        pk=2,
        source="gitlab",
        status="failed",
        method="PUT",
        verification="mismatch",
        is_duplicate=True,
        received_at=now,
    )

    response = api.get(f"{INBOX}?{query.format(now=now.strftime('%Y-%m-%dT%H:%M:%SZ'))}")

    assert [row["id"] for row in response.json()["results"]] == found


@pytest.mark.parametrize("query", ["sourc=github", "status=new", "ordering=raw_body", "source=%00", "received_after=x"])
def test_an_unknown_filter_is_refused(api, query):
    assert api.get(f"{INBOX}?{query}").status_code == 400


def test_the_detail_shows_everything_that_was_received(api):
    webhook = WebhookFactory(
        raw_body=b'{"a": 1}',
        body={"a": 1},
        headers=[["X-A", "1"], ["X-B", "2"]],
        query_params=[["q", "1"]],
        flags=["x"],
    )

    data = api.get(f"{INBOX}/{webhook.pk}").json()

    assert data["body"] == {"a": 1}
    assert (data["raw_body"], data["raw_body_encoding"]) == ('{"a": 1}', "utf-8")
    assert data["headers"] == [["X-A", "1"], ["X-B", "2"]]
    assert (data["query_params"], data["flags"], data["sha256"]) == ([["q", "1"]], ["x"], webhook.sha256)


def test_a_body_that_is_no_text_is_shown_in_base64(api):
    webhook = WebhookFactory(raw_body=b"\xff\x00")

    data = api.get(f"{INBOX}/{webhook.pk}").json()

    assert (data["raw_body"], data["raw_body_encoding"]) == ("/wA=", "base64")


def test_credentials_in_headers_are_masked_and_signatures_shown(api):
    headers = [
        ["Authorization", "Bearer sent-token"],
        ["X-Hub-Signature-256", "sha256=00"],
        ["X-Gitlab-Token", "t0ken"],
    ]
    webhook = WebhookFactory(headers=headers)

    shown = dict(api.get(f"{INBOX}/{webhook.pk}").json()["headers"])

    assert "sent-token" not in shown["Authorization"]
    assert "t0ken" not in shown["X-Gitlab-Token"]
    assert shown["X-Hub-Signature-256"] == "sha256=00"


@pytest.mark.parametrize(
    ("stored", "answered"),
    [
        ("application/json", "application/json"),
        ("text/html; charset=utf-8", "text/html; charset=utf-8"),
        ("", "application/octet-stream"),
    ],
)
def test_raw_gives_the_bytes_and_type_received_as_a_download(api, stored, answered):
    webhook = WebhookFactory(raw_body=bytes(range(256)), content_type=stored)

    response = api.get(f"{INBOX}/{webhook.pk}/raw")

    assert response.content == bytes(range(256))
    assert response["Content-Type"] == answered
    assert response["Content-Disposition"].startswith("attachment;")
    assert response["X-Content-Type-Options"] == "nosniff"


def test_raw_is_given_whatever_type_is_asked_for(api):
    webhook = WebhookFactory(content_type="image/png")

    assert api.get(f"{INBOX}/{webhook.pk}/raw", headers={"Accept": "image/png"}).status_code == 200


def test_status_and_notes_are_changed_and_the_change_is_recorded(api):
    webhook = WebhookFactory()

    response = api.patch(f"{INBOX}/{webhook.pk}", {"status": "processed", "notes": "Seen."})

    assert response.status_code == 200
    assert (response.json()["status"], response.json()["notes"]) == ("processed", "Seen.")
    assert Webhook.objects.get().status == "processed"
    assert LogEntry.objects.get().object_id == str(webhook.pk)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"status": "rejected"}, "status"),
        ({"status": "done"}, "status"),
        ({"source": "x"}, "source"),
        ({"body": {}}, "body"),
        ({"note": "x"}, "note"),
    ],
)
def test_nothing_else_of_a_webhook_can_be_changed(api, data, field):
    response = api.patch(f"{INBOX}/{WebhookFactory().pk}", data)

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


def test_the_status_of_a_rejected_webhook_is_a_conflict(api):
    webhook = WebhookFactory(status="rejected")

    assert api.patch(f"{INBOX}/{webhook.pk}", {"status": "received"}).status_code == 409


def test_a_deleted_webhook_is_gone_and_its_repetitions_stay(api):
    webhook = WebhookFactory()
    repeated = WebhookFactory(is_duplicate=True, duplicate_of=webhook)

    assert api.delete(f"{INBOX}/{webhook.pk}").status_code == 204
    assert api.get(f"{INBOX}/{webhook.pk}").status_code == 404
    assert api.get(f"{INBOX}/{repeated.pk}").json()["duplicate_of"] is None


@pytest.mark.parametrize("path", [INBOX, f"{INBOX}/1", f"{INBOX}/1/raw", SOURCES, f"{SOURCES}/github"])
def test_nothing_is_shown_without_a_token(anonymous_api, path):
    assert anonymous_api.get(path).status_code == 401


@pytest.mark.parametrize(
    "path", [f"{INBOX}/9", f"{INBOX}/9/raw", f"{INBOX}/{10**30}", f"{SOURCES}/none", f"{SOURCES}/%0A"]
)
def test_what_is_not_there_is_a_404(api, path):
    assert api.get(path).status_code == 404


def test_a_token_that_may_only_read_changes_nothing(api, admin_user):
    _, plain = tokens.create_token(user=admin_user, name="reader", scopes=["inbox:read"], expires_at=None)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    webhook = WebhookFactory()

    assert api.get(INBOX).status_code == 200
    assert api.patch(f"{INBOX}/{webhook.pk}", {"notes": "x"}).status_code == 403
    assert api.post(SOURCES, {"name": "github"}).status_code == 403


@pytest.mark.parametrize("path", [INBOX, "{detail}", SOURCES, f"{SOURCES}/github"])
def test_the_pages_for_people_open(browser, path):
    SourceFactory(name="github")
    webhook = WebhookFactory(raw_body=b"<script>alert(1)</script>", event_type="<script>", path="/<script>")

    response = browser.get(path.format(detail=f"{INBOX}/{webhook.pk}"), headers={"Accept": "text/html"})

    assert response.status_code == 200
    assert b"<script>alert" not in response.content


# --- sources ----------------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation_makes_a_source(api):
    response = api.post(
        SOURCES,
        {
            "name": "github",
            "scheme": "github",
            "secrets": [{"value": "It's a Secret to Everybody", "expires_at": None}],
            "scheme_settings": {},
            "dedupe": {"by": "delivery_id"},
            "rate_limit": "600/minute",
            "enabled": True,
        },
    )

    assert response.status_code == 201
    data = response.json()
    assert (data["name"], data["scheme"], data["rate_limit"], data["is_open"]) == (
        "github",
        "github",
        "600/minute",
        False,
    )
    [secret] = data["secrets"]
    assert secret.pop("id") == Source.objects.get().secrets[0]["id"]
    assert secret == {"use": "signature", "last4": "body", "starts_at": None, "expires_at": None}
    assert "Secret" not in response.content.decode()


def test_secrets_are_shown_neither_in_the_list_nor_in_the_detail(api):
    services.create_source(name="github", secrets=[{"value": "a-long-signing-secret"}])

    for path in (SOURCES, f"{SOURCES}/github"):
        content = api.get(path).content.decode()
        assert "signing" not in content
        assert "ciphertext" not in content


def test_a_patch_changes_what_it_names(api):
    services.create_source(name="github", description="Ours.", secrets=[{"value": "s"}])

    response = api.patch(f"{SOURCES}/github", {"enabled": False, "response": {"status": 202}})

    assert response.status_code == 200
    source = Source.objects.get()
    assert (source.enabled, source.response, source.description) == (False, {"status": 202}, "Ours.")
    assert len(source.secrets) == 1


def test_a_secret_is_kept_by_its_id_while_a_new_one_comes(api):
    services.create_source(name="github", scheme="github", secrets=[{"value": "the-old-secret"}])
    [old] = api.get(f"{SOURCES}/github").json()["secrets"]

    kept = {"id": old["id"], "expires_at": "2030-01-01T00:00:00Z"}
    response = api.patch(f"{SOURCES}/github", {"secrets": [{"value": "the-new-secret"}, kept]})

    assert response.status_code == 200
    new, old_again = response.json()["secrets"]
    assert (old_again["id"], old_again["last4"], old_again["expires_at"][:10]) == (old["id"], "cret", "2030-01-01")
    assert new["id"] != old["id"]
    assert [secret.value for secret in signing_secrets(Source.objects.get())] == ["the-new-secret", "the-old-secret"]


def test_a_put_replaces_everything_but_the_secrets(api):
    services.create_source(name="github", description="Ours.", rate_limit="1/second", secrets=[{"value": "s"}])

    response = api.put(f"{SOURCES}/github", {"name": "github", "enabled": False})

    assert response.status_code == 200
    source = Source.objects.get()
    assert (source.enabled, source.description, source.rate_limit) == (False, "", "")
    assert len(source.secrets) == 1


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"scheme": "github"}, "name"),
        ({"name": "123"}, "name"),
        ({"name": "github", "scheme": "md5"}, "scheme"),
        ({"name": "github", "rate_limit": "fast"}, "rate_limit"),
        ({"name": "github", "dedupe": {"by": "luck"}}, "dedupe.by"),
        ({"name": "github", "dedupe": {"by": "delivery_id", "x": 1}}, "dedupe.x"),
        ({"name": "github", "secrets": "x"}, "secrets"),
        ({"name": "github", "secrets": [{"value": ""}]}, "secrets[0].value"),
        ({"name": "github", "secrets": [{"value": "x", "last4": "x"}]}, "secrets[0].last4"),
        ({"name": "github", "secrets": [{"value": "x", "use": "other"}]}, "secrets[0].use"),
        ({"name": "github", "secrets": [{"id": "nothing"}]}, "secrets"),
        ({"name": "github", "scheme": "onfleet", "secrets": [{"value": "not hexadecimal"}]}, "secrets"),
        ({"name": "github", "scheme_settings": {"header": "X"}}, "scheme_settings"),
        ({"name": "github", "allowed_addresses": ["10.0.0.0/33"]}, "allowed_addresses"),
        ({"name": "github", "delivery_id_from": ["cookie:id"]}, "delivery_id_from"),
        ({"name": "github", "scheme_settings": []}, "scheme_settings"),
        ({"name": "github", "allowed_methods": []}, "allowed_methods"),
        ({"name": "github", "response": {"headers": {"Location": "/"}}}, "response"),
        ({"name": "github", "retention": {"days": "1"}}, "retention.days"),
        ({"name": "github", "max_body_bytes": -1}, "max_body_bytes"),
        ({"name": "github", "colour": "red"}, "colour"),
    ],
)
def test_a_faulty_source_is_refused_with_its_field(api, data, field):
    response = api.post(SOURCES, data)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert not Source.objects.exists()


def test_a_source_keeps_its_name(api):
    SourceFactory(name="github")

    assert api.patch(f"{SOURCES}/github", {"name": "gitlab"}).json()["errors"][0]["field"] == "name"


def test_a_name_that_is_taken_is_refused(api):
    SourceFactory(name="github")

    assert api.post(SOURCES, {"name": "github"}).json()["errors"][0]["field"] == "name"


def test_a_source_is_deleted_and_its_webhooks_stay(api):
    SourceFactory(name="github")
    WebhookFactory(source="github")

    assert api.delete(f"{SOURCES}/github").status_code == 204
    assert not Source.objects.exists()
    assert api.get(f"{INBOX}?source=github").json()["count"] == 1


@pytest.mark.parametrize("size", [1, 20])
def test_the_list_of_sources_costs_the_same_for_any_number_of_rows(api, django_assert_num_queries, size):
    SourceFactory.create_batch(size)
    api.get(SOURCES)

    with django_assert_num_queries(3):  # token, count, page
        assert len(api.get(f"{SOURCES}?enabled=true&scheme=none").json()["results"]) == size
