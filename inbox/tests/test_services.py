from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from automation_lab.core.crypto import decrypt
from automation_lab.core.exceptions import Conflict, Invalid
from inbox import services
from inbox.models import Source, Webhook
from inbox.receiving import sources
from inbox.secrets import live_values, signing_secrets, verify_tokens
from inbox.tests.factories import SourceFactory, WebhookFactory

# --- changing ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_person_sets_status_and_notes():
    webhook = services.update_webhook(webhook=WebhookFactory(), status="processed", notes="Seen.")

    stored = Webhook.objects.get(pk=webhook.pk)
    assert (stored.status, stored.notes) == ("processed", "Seen.")
    assert stored.processed_at is not None


@pytest.mark.django_db
def test_notes_alone_leave_a_status_that_has_changed_meanwhile():
    webhook = WebhookFactory()
    services.settle_webhook(webhook_id=webhook.pk, running=0, bad=0, total=1)

    services.update_webhook(webhook=webhook, notes="Seen.")

    assert Webhook.objects.get(pk=webhook.pk).status == "processed"


@pytest.mark.django_db
def test_a_rejected_webhook_stays_rejected():
    with pytest.raises(Conflict):
        services.update_webhook(webhook=WebhookFactory(status="rejected"), status="received")


@pytest.mark.django_db
def test_rejected_is_not_set_by_hand():
    with pytest.raises(Invalid):
        services.update_webhook(webhook=WebhookFactory(), status="rejected")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("running", "bad", "total", "status"),
    [
        (0, 0, 0, "received"),
        (1, 0, 1, "received"),
        (1, 1, 2, "received"),
        (0, 0, 2, "processed"),
        (0, 1, 2, "failed"),
    ],
)
def test_what_a_webhook_started_decides_its_status(running, bad, total, status):
    webhook = WebhookFactory()

    services.settle_webhook(webhook_id=webhook.pk, running=running, bad=bad, total=total, error_message="Step 2: no.")

    webhook.refresh_from_db()
    assert webhook.status == status
    assert (webhook.processed_at is not None) == (status != "received")
    assert webhook.error_message == ("Step 2: no." if status == "failed" else "")


@pytest.mark.django_db
def test_settling_never_accepts_a_rejected_webhook():
    webhook = WebhookFactory(status="rejected")

    services.settle_webhook(webhook_id=webhook.pk, running=0, bad=0, total=1)

    webhook.refresh_from_db()
    assert webhook.status == "rejected"


@pytest.mark.django_db(transaction=True)
def test_a_locked_webhook_is_counted_by_one_after_the_other():
    webhook = WebhookFactory()
    order = []

    def settle():
        with transaction.atomic():
            assert services.lock_webhook(webhook_id=webhook.pk)
            order.append("second")
        connection.close()

    with transaction.atomic():
        assert services.lock_webhook(webhook_id=webhook.pk)
        other = threading.Thread(target=settle)
        other.start()
        other.join(0.3)
        order.append("first")
    other.join()

    assert order == ["first", "second"]


@pytest.mark.django_db
def test_a_webhook_that_is_gone_cannot_be_locked():
    assert not services.lock_webhook(webhook_id=1)


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_secrets_of_a_source_are_stored_encrypted():
    expires_at = timezone.now() + timedelta(days=1)
    secrets = [{"value": "a-long-signing-secret", "expires_at": expires_at}, {"value": "short"}]

    source = services.create_source(name="github", secrets=secrets)

    first, second = Source.objects.get(pk=source.pk).secrets
    assert "signing" not in str(first)
    assert decrypt(first["ciphertext"], bind="source:github") == "a-long-signing-secret"
    assert (first["last4"], first["expires_at"], first["starts_at"]) == ("cret", expires_at.isoformat(), None)
    assert second["last4"] == ""


@pytest.mark.django_db
def test_secrets_of_sources_are_masked_wherever_they_turn_up():
    source = services.create_source(
        name="github", secrets=[{"value": "a-long-signing-secret"}, {"value": "another-one"}]
    )
    source.secrets[1]["ciphertext"] = "broken"
    source.save()

    assert live_values() == ["a-long-signing-secret"]


@pytest.mark.django_db
def test_a_change_without_secrets_keeps_them():
    source = services.create_source(name="github", secrets=[{"value": "s3cret"}])

    services.update_source(source=source, description="Ours.")

    assert len(Source.objects.get(pk=source.pk).secrets) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "123"),
        ("name", "export"),
        ("name", "GitHub"),
        ("name", "-a"),
        ("name", "a" * 65),
        ("name", "a\n"),
        ("scheme", "md5"),
        ("rate_limit", "600"),
        ("rate_limit", "0/minute"),
        ("rate_limit", "10/fortnight"),
        ("dedupe", {"by": "luck"}),
        ("dedupe", {}),
        ("dedupe", {"by": "json_path"}),
        ("dedupe", {"by": "json_path", "path": "order.id"}),
        ("dedupe", {"by": "json_path", "path": "body"}),
        ("dedupe", {"by": "json_path", "path": "body.a[0]"}),
        ("dedupe", {"by": "body_hash"}),
        ("dedupe", {"by": "body_hash", "window_seconds": 0}),
        ("dedupe", {"by": "body_hash", "window_seconds": True}),
        ("dedupe", {"by": "none", "window_seconds": 300}),
        ("allowed_methods", []),
        ("allowed_methods", ["post"]),
        ("max_body_bytes", 0),
        ("max_body_bytes", 26_214_401),
        ("scheme_settings", []),
        ("response", {"status": 302}),
        ("response", {"status": True}),
        ("response", {"headers": {"Set-Cookie": "a=b"}}),
        ("response", {"headers": {"Content-Type": "text/html"}}),
        ("response", {"headers": {"Cache-Control": "a\r\nb"}}),
        ("response", {"body": "x" * 10_001}),
        ("response", {"location": "/"}),
        ("response", []),
        ("retention", {"days": 0}),
        ("retention", {"weeks": 1}),
        ("retention", {"days": 5, "payload_days": 6}),
        ("allowed_addresses", ["localhost"]),
        ("allowed_addresses", ["fe80::1%eth0"]),
        ("allowed_addresses", ["10.0.0.0/8"] * 201),
        ("event_type_from", ["type"]),
        ("event_type_from", ["header:X+body"]),
        ("event_type_from", ["body:items[0].type"]),
        ("delivery_id_from", ["body:id"] * 11),
    ],
)
def test_a_faulty_source_is_refused_by_field(field, value):
    with pytest.raises(Invalid) as caught:
        services.create_source(**{"name": "github", field: value})

    assert {error["field"] for error in caught.value.errors} == {field}


@pytest.mark.django_db
@pytest.mark.parametrize("rate", ["", "0", "1/second", "600/minute", "100000/day"])
def test_rates_are_written_like_600_a_minute(rate):
    assert services.create_source(name="github", rate_limit=rate).rate_limit == rate


@pytest.mark.django_db
def test_a_name_is_given_once():
    services.create_source(name="github")

    with pytest.raises(Invalid) as caught:
        services.create_source(name="github")

    assert caught.value.errors[0]["field"] == "name"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "secrets",
    [
        [{"value": ""}],
        [{"value": " "}],
        [{"value": "x" * 4097}],
        [{"value": "x"}] * 11,
        [{"value": "x", "starts_at": timezone.now(), "expires_at": timezone.now() - timedelta(days=1)}],
    ],
)
def test_faulty_secrets_are_refused_without_showing_them(secrets):
    with pytest.raises(Invalid) as caught:
        services.create_source(name="github", secrets=secrets)

    assert caught.value.field == "secrets"


@pytest.mark.django_db
def test_a_secret_is_kept_once():
    source = services.create_source(name="github", secrets=[{"value": "x"}])
    kept = {"id": source.secrets[0]["id"]}

    with pytest.raises(Invalid) as caught:
        services.update_source(source=source, secrets=[kept, kept])

    assert (caught.value.field, caught.value.code) == ("secrets", "repeated_secret")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("scheme", "settings"),
    [
        ("none", {"header": "X-Token"}),
        ("github", {"tolerance_seconds": 60}),
        ("stripe", {"tolerance_seconds": 0}),
        ("stripe", {"tolerance_seconds": 604_801}),
        ("stripe", {"tolerance_seconds": True}),
        ("token", {"header": "X Token"}),
        ("token", {"header": ""}),
        ("hmac", {"algorithm": "md5"}),
        ("hmac", {"content": "{timestamp}", "timestamp_header": "X-Time"}),
        ("hmac", {"content": "{timestamp}.{body}"}),
        ("hmac", {"content": "{body}", "timestamp_header": "X-Time"}),
        ("hmac", {"content": "{cookie}{body}"}),
        ("hmac", {"content": "{header:}{body}"}),
        ("hmac", {"content": "{header:X-Id\n}{body}"}),
        ("hubspot", {"accept": []}),
        ("hubspot", {"accept": ["v4"]}),
        ("square", {"url": "ftp://shop.example"}),
        ("square", {"url": "https://[shop/"}),
        ("square", {"url": "https://shop.example/ü"}),
        ("sns", {}),
        ("sns", {"topics": ["orders"]}),
    ],
)
def test_settings_that_a_scheme_does_not_have_are_refused(scheme, settings):
    with pytest.raises(Invalid) as caught:
        services.create_source(name="shop", scheme=scheme, scheme_settings=settings)

    assert [error["field"] for error in caught.value.errors] == ["scheme_settings"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("standard_webhooks", "whsec_"),
        ("standard_webhooks", "whsec_c2hvcnQ="),
        ("standard_webhooks", "whpk_c2hvcnQ="),
        ("onfleet", "0g"),
        ("adyen", "not hexadecimal"),
        ("discord", "00"),
        ("sendgrid", "MFkw"),
        ("basic", "password"),
        ("basic", ":password"),
        ("sns", "secret"),
    ],
)
def test_a_secret_that_a_scheme_cannot_use_is_refused_and_not_shown(scheme, value):
    settings = {"topics": ["arn:aws:sns:eu-west-1:123456789012:orders"]} if scheme == "sns" else {}

    with pytest.raises(Invalid) as caught:
        services.create_source(name="shop", scheme=scheme, scheme_settings=settings, secrets=[{"value": value}])

    assert (caught.value.field, caught.value.code) == ("secrets", "unusable_secret")
    assert value not in caught.value.message.split()


@pytest.mark.django_db
def test_another_scheme_needs_secrets_that_it_can_use():
    source = services.create_source(name="shop", scheme="github", secrets=[{"value": "not hexadecimal"}])

    with pytest.raises(Invalid):
        services.update_source(source=source, scheme="onfleet")


@pytest.mark.django_db
def test_a_verify_token_belongs_to_meta_and_signs_nothing():
    with pytest.raises(Invalid):
        services.create_source(name="shop", scheme="github", secrets=[{"value": "x", "use": "verify_token"}])
    source = services.create_source(name="meta", scheme="meta", secrets=[{"value": "token", "use": "verify_token"}])

    assert signing_secrets(source) == ()
    assert [secret.value for secret in verify_tokens(source)] == ["token"]


@pytest.mark.django_db
@pytest.mark.parametrize("values", [{"dedupe": {"by": "none"}}, {"delivery_id_from": ["header:X-Id"]}])
def test_the_token_of_mailgun_stays_the_delivery_id(values):
    with pytest.raises(Invalid) as caught:
        services.create_source(name="mail", scheme="mailgun", **values)

    assert caught.value.errors[0]["code"] == "one_time_token"


@pytest.mark.django_db
def test_a_source_that_is_opened_again_has_to_be_confirmed_again():
    source = services.create_source(name="shop", open_confirmed=True)

    services.update_source(source=source, scheme="github")
    services.update_source(source=source, scheme="none")

    assert not Source.objects.get().open_confirmed


@pytest.mark.django_db
def test_deleting_a_source_keeps_its_webhooks():
    source = SourceFactory(name="github")
    webhook = WebhookFactory(source="github")

    services.delete_source(source=source)

    assert Webhook.objects.filter(pk=webhook.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_a_change_counts_at_once_in_the_process_that_made_it(settings):
    settings.INBOX_SOURCE_CACHE_SECONDS = 60
    source = services.create_source(name="github")
    assert sources.find_source("github") == source

    services.update_source(source=source, enabled=False)

    assert sources.find_source("github") is None


@pytest.mark.django_db(transaction=True)
def test_a_source_is_looked_up_once_in_a_while(settings, django_assert_num_queries):
    settings.INBOX_SOURCE_CACHE_SECONDS = 60
    sources.forget("github")
    sources.find_source("github")

    with django_assert_num_queries(0):
        assert sources.find_source("github").name == "github"

    sources.forget("github")
