"""The steps of a run as a tree."""

from __future__ import annotations

from workflows.console.step_tree import arrange, parent_of
from workflows.models import StepExecution


def steps(*paths):
    return [StepExecution(path=path, position=number) for number, path in enumerate(paths)]


def shape(*paths):
    return [(place.step.path, place.depth, place.branch) for place in arrange(steps(*paths))]


def test_children_stand_below_their_container_branch_by_branch():
    interleaved = shape("loop", "loop[0]/a", "loop[1]/a", "loop[0]/b", "loop[1]/b", "end")

    assert interleaved == [
        ("loop", 0, ""),
        ("loop[0]/a", 1, "0"),
        ("loop[0]/b", 1, ""),
        ("loop[1]/a", 1, "1"),
        ("loop[1]/b", 1, ""),
        ("end", 0, ""),
    ]


def test_containers_stand_inside_containers():
    assert shape("a", "a[then]/b", "a[then]/b[0]/c") == [
        ("a", 0, ""),
        ("a[then]/b", 1, "then"),
        ("a[then]/b[0]/c", 2, "0"),
    ]


def test_a_step_whose_parent_is_not_shown_stands_at_the_top():
    assert shape("loop[900]/a") == [("loop[900]/a", 0, "")]


def test_the_parent_of_a_path():
    assert parent_of("a") == ("", "")
    assert parent_of("a[0]/b") == ("a", "0")
    assert parent_of("a[0]/b[left]/c") == ("a[0]/b", "left")
