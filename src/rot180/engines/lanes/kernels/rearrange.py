"""Values in another shape or order: copies alone, with the strides that say where each value goes."""

from rot180.engines.lanes.kernels.copy import copied
from rot180.engines.lanes.layout import Maps
from rot180.engines.lanes.plan import Site, lowers
from rot180.engines.lanes.twin import LANES
from rot180.layers import ChannelShuffle, Reshape


@lowers(Reshape)
class ReshapeLowering:
    """Values without gaps are in the order c, i, j whatever their shape; a halo takes a copy to be rid of."""

    def forward(self, site: Site) -> None:
        reshaped(site, "x without gaps", site.x(), site.y())

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: reshaped(site, "dy without gaps", site.dy(), dx))


def reshaped(site: Site, name: str, source: Maps, target: Maps) -> None:
    """Emit the rows for target = source, read in the same order."""
    plain = copied(site, name, source)
    line = target.width * LANES
    copied(
        site, "", target._replace(start=plain.start, group=plain.group, plane=target.height * line, line=line), target
    )


@lowers(ChannelShuffle)
class ChannelShuffleLowering:
    """The maps of each group go to every G-th place."""

    def forward(self, site: Site) -> None:
        for together, dealt in parts(site.layer.groups, site.x(), site.y()):
            copied(site, "", together, dealt)

    def backward(self, site: Site) -> None:
        if site.wants_dx():
            site.write_dx(lambda dx: self.gradient(site, dx))

    def gradient(self, site: Site, dx: Maps) -> None:
        """The rows that write dx."""
        for together, dealt in parts(site.layer.groups, dx, site.dy()):
            copied(site, "", dealt, together)


def parts(groups: int, x: Maps, y: Maps) -> list[tuple[Maps, Maps]]:
    """For each group its maps in x, side by side, and in y, G apart."""
    size = x.channels // groups
    return [
        (
            x._replace(start=x.start + g * size * x.plane, channels=size),
            y._replace(start=y.start + g * y.plane, plane=groups * y.plane, channels=size),
        )
        for g in range(groups)
    ]
