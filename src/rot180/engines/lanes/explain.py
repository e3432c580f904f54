"""What a plan does and why: which kernels run each pass of each node, and where every value lies."""

from typing import NamedTuple

from rot180.arrays import text
from rot180.engines.lanes.plan import Plan, Step
from rot180.engines.lanes.table import Pass

BYTES_PER_VALUE = 4


class KernelUse(NamedTuple):
    """One pass of one node."""

    node: str
    layer: str
    in_pass: str
    kernels: tuple[str, ...]
    reason: str


class MemoryUse(NamedTuple):
    """One value's place in the arena."""

    value: str
    size: str  # C x H x W, for one group of 16 images
    halo: tuple[int, int]
    offset: int  # bytes
    bytes: int
    born: int  # the first moment it is used, in nodes from the start of the forward pass
    dies: int  # the last


def kernel_uses(plan: Plan) -> list[KernelUse]:
    """In the order in which they run. Nodes without a row are computed by the node before them."""
    reasons = {(choice.node, choice.in_pass): choice.reason for choice in plan.choices}
    found: dict[tuple[str, Pass], list[str]] = {}
    for step in plan.body:
        names = found.setdefault((step.node, _pass_of(step)), [])
        if step.kernel.name not in names:
            names.append(step.kernel.name)
    uses = []
    for (node, in_pass), names in found.items():
        layer = type(plan.graph[node].layer).__name__
        reason = reasons.get((node, in_pass), "the one way there is")
        fused = plan.shown_by(node)
        if in_pass is Pass.FORWARD and fused != node:
            reason += f"; computes {fused!r} too"
        uses.append(KernelUse(node, layer, in_pass, tuple(names), reason))
    return uses


def memory_uses(plan: Plan) -> list[MemoryUse]:
    """All values, by their place."""
    return [
        MemoryUse(
            value=name,
            size=text((buffer.channels, buffer.height, buffer.width)),
            halo=buffer.halo,
            offset=buffer.offset * BYTES_PER_VALUE,
            bytes=buffer.size * plan.groups * BYTES_PER_VALUE,
            born=buffer.born,
            dies=buffer.dies,
        )
        for name, buffer in sorted(plan.buffers().items(), key=lambda item: item[1].offset)
    ]


def _pass_of(step: Step) -> Pass:
    if not step.backward:
        return Pass.FORWARD
    sums = ("weight_gradient", "parameter_gradients", "sum_to_bias", "transpose")
    return Pass.WEIGHT_GRADIENT if any(word in step.kernel.name for word in sums) else Pass.INPUT_GRADIENT
