from __future__ import annotations

import copy

import pytest
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from automation_lab import tokens
from automation_lab.core.execution.tests.helpers import together
from inbox.models import SavedView

pytestmark = pytest.mark.django_db
VIEWS = "/v1/webhooks/views"
ADD = "/admin/inbox/savedview/add/"


def client_of(user):
    _, plain = tokens.create_token(user=user, name="tests", expires_at=None)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {plain}")
    return client


@pytest.fixture
def operator():
    user = User.objects.create_user("kim")
    user.groups.add(Group.objects.get(name="operator"))
    return user


def test_a_view_is_kept_with_its_query_in_order(api, admin_user):
    response = api.post(VIEWS, {"name": "Failed pushes", "query": "?source=github&status=failed&body.a.b=x%20y"})

    assert response.status_code == 201
    view = SavedView.objects.get()
    assert (view.owner, view.shared) == (admin_user, False)
    assert response.json()["query"] == view.query == "source=github&status=failed&body.a.b=x+y"
    assert response.json()["owner"] == "admin"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"query": ""}, "name"),
        ({"name": "", "query": ""}, "name"),
        ({"name": "x" * 101, "query": ""}, "name"),
        ({"name": "x", "query": "sorce=github"}, "filter.sorce"),
        ({"name": "x", "query": "status=new"}, "filter.status"),
        ({"name": "x", "query": "source=a&source=b"}, "query"),
        ({"name": "x", "query": "nonsense"}, "query"),
        ({"name": "x", "query": "source=%ff"}, "query"),
        ({"name": "x", "query": "source=%00"}, "filter.source"),
        ({"name": "x", "query": "body.a..b=1"}, "body.a..b"),
        ({"name": "x", "query": "", "owner": "kim"}, "owner"),
    ],
)
def test_a_view_that_the_list_could_not_show_is_refused(api, body, field):
    response = api.post(VIEWS, body)

    assert (response.status_code, SavedView.objects.count()) == (400, 0)
    assert response.json()["errors"][0]["field"] == field


def test_a_name_is_taken_once_by_each(api, operator):
    assert api.post(VIEWS, {"name": "mine", "query": ""}).status_code == 201
    assert api.post(VIEWS, {"name": "mine", "query": ""}).status_code == 409
    assert client_of(operator).post(VIEWS, {"name": "mine", "query": ""}).status_code == 201


def test_a_view_is_renamed_but_not_to_a_name_that_is_taken(api):
    api.post(VIEWS, {"name": "one", "query": ""})
    second = api.post(VIEWS, {"name": "two", "query": ""}).json()["id"]

    assert api.patch(f"{VIEWS}/{second}", {"name": "one"}).status_code == 409
    assert api.patch(f"{VIEWS}/{second}", {"name": "two", "shared": True}).status_code == 200
    assert api.patch(f"{VIEWS}/{second}", {"name": "three"}).json()["name"] == "three"


def test_others_see_what_is_shared_and_change_nothing_of_it(api, operator):
    own = api.post(VIEWS, {"name": "mine", "query": ""}).json()["id"]
    shared = api.post(VIEWS, {"name": "ours", "query": "", "shared": True}).json()["id"]
    other = client_of(operator)

    assert [row["name"] for row in other.get(VIEWS).json()["results"]] == ["ours"]
    assert other.get(f"{VIEWS}/{shared}").status_code == 200
    assert other.get(f"{VIEWS}/{own}").status_code == 404
    assert other.patch(f"{VIEWS}/{shared}", {"name": "theirs"}).status_code == 404
    assert other.delete(f"{VIEWS}/{shared}").status_code == 404
    assert api.delete(f"{VIEWS}/{shared}").status_code == 204


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 201), ("editor", 201)])
def test_roles_that_work_with_webhooks_save_views(user, role, status):
    user.groups.add(Group.objects.get(name=role))

    assert client_of(user).post(VIEWS, {"name": "mine", "query": ""}).status_code == status


@pytest.mark.parametrize("count", [1, 20])
def test_the_list_needs_the_same_queries_for_one_row_and_for_many(api, admin_user, django_assert_num_queries, count):
    SavedView.objects.bulk_create(SavedView(name=f"view {number}", owner=admin_user) for number in range(count))
    api.get(VIEWS)

    with django_assert_num_queries(3):
        assert api.get(VIEWS).json()["count"] == count


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("kind", "address", "saved", "refused"),
    [("api", VIEWS, 201, 409), ("browser", ADD, 302, 200)],
    ids=["API", "console"],
)
def test_of_saves_that_race_for_one_name_one_is_kept_and_the_others_are_told(request, kind, address, saved, refused):
    client = request.getfixturevalue(kind)
    clients = [copy.copy(client) for _ in range(6)]

    answers = together([lambda each=each: each.post(address, {"name": "mine", "query": ""}) for each in clients])

    assert sorted(answer.status_code for answer in answers) == sorted([saved, *[refused] * 5])
    told = [b"You have a view of this name already." in answer.content for answer in answers]
    assert told.count(True) == 5
    assert SavedView.objects.count() == 1
