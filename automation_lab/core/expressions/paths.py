"""Paths such as `steps.fetch.output` in Jinja's tree, and which of them an expression uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import nodes

from automation_lab.core.expressions.values import path_text


@dataclass(frozen=True)
class Reference:
    """A name that an expression uses: `steps.fetch.output` is `("steps", ("fetch", "output"))`.

    `path` ends where the key is computed. `guarded` when `default` or `is defined` covers it.
    """

    root: str
    path: tuple[str | int, ...] = ()
    guarded: bool = False

    def __str__(self) -> str:
        return path_text((self.root, *self.path))


def is_secret(node: nodes.Node) -> bool:
    """Whether `node` is `secrets.NAME`. The name must be a constant, so that saving knows which secrets are used."""
    if not isinstance(node, nodes.Getattr | nodes.Getitem) or not isinstance(node.node, nodes.Name):
        return False
    return node.node.name == "secrets" and isinstance(constant_key(node), str)


def constant_key(node: nodes.Getattr | nodes.Getitem) -> str | int | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    key = node.arg.value if isinstance(node.arg, nodes.Const) else None
    return key if isinstance(key, str | int) and not isinstance(key, bool) else None


def references(node: nodes.Node, *, guarded: bool) -> Iterator[Reference]:
    if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
        base, steps = path_of(node)
        if isinstance(base, nodes.Name):
            yield Reference(base.name, tuple(_constant_start(steps)), guarded)
        else:
            yield from references(base, guarded=guarded)
        for step in steps:
            if isinstance(step, nodes.Getitem):
                yield from references(step.arg, guarded=False)
        return
    covers = isinstance(node, nodes.Filter | nodes.Test) and node.name in {"default", "defined", "undefined"}
    for child in node.iter_child_nodes():
        yield from references(child, guarded=guarded or (covers and child is node.node))  # type: ignore[attr-defined]


def _constant_start(steps: list[nodes.Getattr | nodes.Getitem]) -> Iterator[str | int]:
    for step in steps:
        key = constant_key(step)
        if key is None:
            return
        yield key


def path_of(node: nodes.Node) -> tuple[nodes.Node, list[nodes.Getattr | nodes.Getitem]]:
    """The innermost value of `a.b[c].d` and the steps from it, first to last. A slice starts a new value."""
    steps: list[nodes.Getattr | nodes.Getitem] = []
    while isinstance(node, nodes.Getattr) or (isinstance(node, nodes.Getitem) and not _is_slice(node)):
        steps.append(node)
        node = node.node
    if isinstance(node, nodes.Getitem) and not steps:
        return node.node, [node]
    return node, steps[::-1]


def _is_slice(node: nodes.Getitem) -> bool:
    return isinstance(node.arg, nodes.Slice)
