"""Is a plan sound, and does it compute what the definition says? The first is asked of every plan before it runs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rot180.arrays import Array
from rot180.chance import Training
from rot180.engines.lanes.layout import Maps
from rot180.engines.lanes.plan import Buffer, Plan, Step
from rot180.engines.lanes.single.layout import Picture
from rot180.engines.lanes.twin import LANES
from rot180.engines.reference import ReferenceEngine


class UnsoundPlanError(Exception):
    """A row would reach outside its value's memory, or two values alive together share theirs: a bug in rot180."""


def check_plan(plan: Plan) -> None:
    """Raise UnsoundPlanError unless each map that a row names lies inside one value's memory, each parameter in P,
    and no two values that are alive at the same time overlap.

    Kernels check nothing: what they are told must be right.
    """
    buffers = sorted(plan.buffers().values(), key=lambda buffer: buffer.offset)
    for index, one in enumerate(buffers):
        for other in buffers[index + 1 :]:
            if other.offset >= one.offset + one.size * plan.groups:
                break
            same_place = one.form == other.form and one.offset == other.offset
            kept = (any(one.halo) or any(other.halo)) and not plan.zeroes_halos
            if one.meets(other) or (kept and not same_place):
                raise UnsoundPlanError(f"two values share memory from {other.offset} on while both are alive")
        if one.offset < 0 or one.offset + one.size * plan.groups > plan.arena:
            raise UnsoundPlanError(f"a value lies outside the arena of {plan.arena}")
    for step in (*plan.prepare, *plan.body):
        for name, maps in _maps_of(step.row):
            if not any(_holds(buffer, maps) for buffer in buffers):
                raise UnsoundPlanError(f"{step.node}, {step.kernel.name}: {name} is not inside one value's memory")
        for name in {"w", "b", "dw", "db", "packed"} & set(getattr(step.row, "_fields", ())):
            place = getattr(step.row, name)
            in_arena = name == "packed" and getattr(step.row, "in_arena", False)
            if isinstance(place, int) and not 0 <= place < (plan.arena if in_arena else plan.packed):
                where = "arena" if in_arena else "parameters"
                raise UnsoundPlanError(f"{step.node}, {step.kernel.name}: {name} lies outside the {where}")


def _maps_of(row: Any, name: str = "row") -> Iterator[tuple[str, Maps | Picture]]:
    if isinstance(row, Maps | Picture):
        yield name, row
    else:
        for field in getattr(row, "_fields", ()):
            yield from _maps_of(getattr(row, field), f"{name}.{field}")


def _holds(buffer: Buffer, maps: Maps | Picture) -> bool:
    """Do the maps, with the halo of their rows, lie inside the buffer?"""
    first, last = maps.start - buffer.halo[0] * buffer.column, maps.end + buffer.halo[1] * buffer.column
    return buffer.offset <= first and last <= buffer.offset + buffer.size


class Difference(NamedTuple):
    """Where a program first leaves the definition."""

    node: str
    what: str  # "output" or "gradient"
    kernels: tuple[str, ...]  # that computed it
    error: float  # the largest difference, relative to the largest value

    def __str__(self) -> str:
        return f"the {self.what} of {self.node!r}, computed by {', '.join(self.kernels)}, is off by {self.error:.1e}"


def first_difference(
    program: Any,
    images: Array,
    labels: Array,
    parameters: Array,
    statistics: Array,
    training: Training | None = None,
    tolerance: float = 1e-4,
) -> Difference | None:
    """Run a LanesProgram's rows one by one on at most 16 images, and compare each value with the definition's.

    Outputs are compared once the node's rows have run, gradients when the node that reads them is about to.
    """
    graph, layouts = program.graph, (program.parameters, program.statistics)
    definition = ReferenceEngine().compile(graph, *layouts)
    expected = definition.values(images, labels, parameters, statistics, training)
    prepared, gradients = program.begin(images, labels, parameters, statistics, training)
    plan, done = prepared.plan, dict[str, tuple[str, ...]]()

    def compare(name: str, what: str, values: Array, kernels: tuple[str, ...]) -> Difference | None:
        found = read(prepared.A[0], plan.maps(name), len(images)).reshape(values.shape)
        error = float(np.abs(found - values).max() / max(float(np.abs(values).max()), 1e-30))
        return None if error < tolerance else Difference(name.removeprefix("d "), what, kernels, error)

    for node, backward, steps in _by_node(plan.body):
        gradient = expected.gradients.get(plan.shown_by(node) if plan.applies_limits_gradient(node) else node)
        if backward and gradient is not None and gradient.ndim and not plan.is_fused(node):
            different = compare("d " + node, "gradient", gradient, done.get("d " + node, ()))
            if different:
                return different
        for step in steps:
            step.kernel.run(prepared.P, gradients, prepared.A[0], prepared.S[0], step.row, 0, step.units)
        done |= {"d " + name: tuple(step.kernel.name for step in steps) for name in graph[node].inputs}
        shown = plan.shown_by(node)
        if not backward and expected.outputs[shown].ndim:
            different = compare(node, "output", expected.outputs[shown], tuple(step.kernel.name for step in steps))
            if different:
                return different
    return None


def _by_node(steps: list[Step]) -> Iterator[tuple[str, bool, list[Step]]]:
    """Runs of rows of one node and one direction."""
    start = 0
    for index in range(1, len(steps) + 1):
        if index == len(steps) or (steps[index].node, steps[index].backward) != (
            steps[start].node,
            steps[start].backward,
        ):
            yield steps[start].node, steps[start].backward, steps[start:index]
            start = index


def read(A: Array, maps: Maps, images: int) -> Array:
    """(N,C,H,W) from the lanes of the arena's first group."""
    size = maps.channels, maps.height, maps.width, LANES
    strides = tuple(A.itemsize * step for step in (maps.plane, maps.line, LANES, 1))
    lanes = np.lib.stride_tricks.as_strided(A[maps.start :], size, strides)
    return lanes.transpose(3, 0, 1, 2)[:images].copy()
