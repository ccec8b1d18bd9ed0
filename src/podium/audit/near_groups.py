"""From links between pictures to groups whose members resemble one another, and not merely along a chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np

REPRESENTATIVES = 4
"""Members of a group that all others must resemble; up to so many members, that is every pair."""

Pair = tuple[int, int]
Checks = Generator[list[Pair], Mapping[Pair, float], list[list[int]]]
"""Asks for pairs, is sent what separates those that may belong together, and returns groups in the end."""


def settle(count: int, links: Mapping[Pair, float], check: Callable[[list[Pair]], Mapping[Pair, float]]) -> np.ndarray:
    """int64 (count,): group of each picture; who is alone has a number of its own.

    links: what separates the pictures of each pair (lower number first) that are copies. check: the same for pairs that
    are not linked, those left out that cannot belong to one group; pairs of all groups are asked for together.
    """
    near: defaultdict[int, set[int]] = defaultdict(set)
    for first, second in links:
        near[first].add(second)
        near[second].add(first)
    known = dict(links)
    refused: set[Pair] = set()
    groups: list[list[int]] = []
    running: list[tuple[Checks, list[Pair]]] = []

    def advance(work: Checks, asked: list[Pair] | None) -> None:
        try:
            running.append((work, work.send(None if asked is None else known)))  # type: ignore[arg-type]
        except StopIteration as end:
            groups.extend(end.value)

    for members in connected(sorted(near), near):
        advance(_part(members, near, known), None)
    while running:
        waiting, running = running, []
        asked = sorted({pair for _, pairs in waiting for pair in pairs} - known.keys() - refused)
        known.update(check(asked))
        refused.update(pair for pair in asked if pair not in known)
        for work, pairs in waiting:
            advance(work, pairs)
    out = np.arange(count)
    for group in groups:
        out[group] = min(group)
    return out


def connected(members: Sequence[int], near: Mapping[int, set[int]]) -> list[list[int]]:
    """Members that links among them join, directly or by way of others; each list ascends, and so do their firsts."""
    left, out = set(members), []
    for member in sorted(members):
        if member not in left:
            continue
        left.discard(member)
        found, edge = [member], [member]
        while edge:
            reached = near[edge.pop()] & left
            left -= reached
            found += reached
            edge += reached
        out.append(sorted(found))
    return out


def _part(members: list[int], near: Mapping[int, set[int]], known: Mapping[Pair, float]) -> Checks:
    """Cut one linked set into groups: around the member with most links, then the same with those it left out."""
    groups: list[list[int]] = []
    sets = [members]
    while sets:
        members = sets.pop()
        if len(members) <= 2:
            groups.append(members)
            continue
        inside = set(members)

        def rank(member: int, inside: set[int] = inside) -> tuple[int, float, int]:
            others = near[member] & inside
            return -len(others), sum(sorted(known[_pair(member, other)] for other in others)), member

        leader = min(members, key=rank)
        kept = yield from _resembling(leader, members, known)
        asked = {leader}
        while len(asked) < REPRESENTATIVES and set(kept) - asked:
            # Whoever lies farthest from the leader speaks for the rest; it goes itself unless most agree with it.
            far = max(set(kept) - asked, key=lambda member: (known[_pair(leader, member)], -member))
            asked.add(far)
            agreeing = yield from _resembling(far, kept, known)
            outvoted = 2 * (len(agreeing) - 1) <= len(kept) - 1
            kept = [member for member in kept if member != far] if outvoted else agreeing
        kept = next(group for group in connected(kept, near) if leader in group)
        groups.append(kept)
        sets += connected(sorted(inside - set(kept)), near)
    return groups


def _resembling(
    one: int, members: list[int], known: Mapping[Pair, float]
) -> Generator[list[Pair], Mapping[Pair, float], list[int]]:
    """``one`` and those of ``members`` that may be in a group with it."""
    known = yield [_pair(one, member) for member in members if member != one]
    return [member for member in members if member == one or _pair(one, member) in known]


def _pair(first: int, second: int) -> Pair:
    return (first, second) if first < second else (second, first)
