"""slide a kernel over a picture: blur, sharpen, find edges, lines or a stroke

Each channel by itself, as a network's first layer would with weights that somebody chose. A kernel is a name of
--list or a file: a matrix as text, CSV or JSON.

  rot180 filter --list
  rot180 filter photo.jpg --kernel sobel --out edges.png
  rot180 filter photo.jpg --kernel gaussian --size 9 --sigma 2 --border reflect --out soft.png
  rot180 filter nine.png --find loop --top 3
"""

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rot180 import image_filters as filters
from rot180.arrays import Array
from rot180.cli.output import print_json, print_table
from rot180.errors import SettingError
from rot180.files import replace_file

if TYPE_CHECKING:
    from PIL import Image

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
DECIMALS = 3  # of a kernel's values on the terminal


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="JPEG, PNG, GIF, BMP, TIFF or WebP")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kernel", metavar="NAME|FILE", help="a name of --list, or a file with a matrix")
    what.add_argument("--find", metavar="NAME|FILE", help="a stroke (1 ink, -1 paper): where is it in the picture?")
    what.add_argument("--list", action="store_true", help="show the kernels")
    parser.add_argument("--out", type=Path, metavar="OUT.png", help=f"the new picture: {', '.join(PICTURES)}")
    parser.add_argument("--size", type=int, metavar="N", help="of a mean or a Gaussian")
    parser.add_argument("--sigma", type=float, metavar="S", help="of a Gaussian, in pixels")
    parser.add_argument("--border", choices=filters.BORDERS, default="replicate", help="beyond it (default: replicate)")
    parser.add_argument(
        "--range",
        choices=filters.RANGES,
        help="how values become 0..255 (default: absolute if the kernel sums to 0, clip if to at most 1, else rescale)",
    )
    parser.add_argument("--flip", action="store_true", help="true convolution: turn the kernel by 180 degrees first")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="--find: the K best places (default: 1)")
    parser.add_argument("--dark", action="store_true", help="--find: the ink is dark, the paper light")


def run(arguments: argparse.Namespace) -> int:
    """List, find, or filter."""
    if arguments.list:
        return _list(arguments.json)
    if arguments.image is None:
        raise SettingError("there is no IMAGE: say which picture")
    return _find(arguments) if arguments.find else _filter(arguments)


def _filter(arguments: argparse.Namespace) -> int:
    from PIL import Image

    from rot180.data.pictures import read_picture

    if arguments.out is None:
        raise SettingError("there is no --out: say where the new picture goes, such as --out filtered.png")
    if arguments.out.suffix.lower() not in PICTURES:
        raise SettingError(f"--out {arguments.out}: the name has to end in {', '.join(PICTURES)}")
    name, flip = arguments.kernel, arguments.flip
    kernels = [_kernel(each, arguments) for each in filters.MAGNITUDES.get(name, (name,))]
    maps = _maps(read_picture(arguments.image))
    slide = filters.convolve if flip else filters.apply
    if name in filters.MAGNITUDES:
        y = filters.magnitude(maps, name, arguments.border)  # the same for kernels turned round
    else:
        y = slide(maps, kernels[0], arguments.border)
    rule = arguments.range or filters.natural_range(kernels[0])
    values = filters.to_picture(y, rule)
    picture = Image.fromarray(values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0)))
    _save(picture, arguments.out)
    lowest, highest = float(y.min()), float(y.max())
    result = {
        "image": str(arguments.image),
        "out": str(arguments.out),
        "kernel": name,
        "kernels": [w.tolist() for w in kernels],
        "flipped": flip,
        "border": arguments.border,
        "range": rule,
        "lowest": lowest,
        "highest": highest,
        "size": list(picture.size),
        "channels": len(values),
    }
    if arguments.json:
        print_json(result)
    else:
        print(
            f"{arguments.out}: {picture.width}x{picture.height}, values {lowest:g} to {highest:g}, {rule} to 0..255; "
            f"beyond the border: {arguments.border}"
        )
    return 0


def _find(arguments: argparse.Namespace) -> int:
    from rot180.data.pictures import grey, read_picture

    ink = np.asarray(grey(read_picture(arguments.image)), np.float32) * (2 / filters.FULL) - 1
    if arguments.dark:
        ink = -ink
    matches = filters.find_stroke(ink, _kernel(arguments.find, arguments), arguments.top)
    if arguments.json:
        print_json({"image": str(arguments.image), "stroke": arguments.find, "matches": [vars(m) for m in matches]})
    else:
        rows = [[str(match.row), str(match.column), f"{match.strength:.4f}"] for match in matches]
        print_table(
            f"{arguments.find} in {arguments.image}: 1 is every pixel as asked, -1 every one the opposite",
            ["top row", "left column", "strength"],
            rows,
            left=0,
        )
    return 0


def _list(as_json: bool) -> int:
    kernels = {name: filters.kernel(name) for name in filters.KERNELS}
    if as_json:
        listed = [
            {"name": name, "shows": named.shows, "takes": list(named.takes), "kernel": kernels[name].tolist()}
            for name, named in filters.KERNELS.items()
        ]
        pairs = [{"name": name, "magnitude_of": list(pair)} for name, pair in filters.MAGNITUDES.items()]
        print_json(listed + pairs)
        return 0
    for name, named in filters.KERNELS.items():
        options = "".join(f"  --{setting}" for setting in named.takes)
        print(f"{name}: {named.shows}{options}\n{drawn(kernels[name])}\n")
    for name, (x, y) in filters.MAGNITUDES.items():
        print(f"{name}: how strong an edge is, in whatever direction\n    √({x}² + {y}²)\n")
    return 0


def drawn(w: Array) -> str:
    """The matrix as text: columns flush right between brackets."""
    cells = [[f"{round(float(value), DECIMALS):g}" for value in row] for row in w]
    widths = [max(len(row[column]) for row in cells) for column in range(w.shape[1])]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    if len(lines) == 1:
        return f"    [ {lines[0]} ]"
    left, right = ["⎡", *"⎢" * (len(lines) - 2), "⎣"], ["⎤", *"⎥" * (len(lines) - 2), "⎦"]
    return "\n".join(f"    {a} {line} {b}" for a, line, b in zip(left, lines, right, strict=True))


def _kernel(name: str, arguments: argparse.Namespace) -> Array:
    """By name, divided by its sum where it is the template; or from a file."""
    if name in filters.KERNELS:
        w = filters.kernel(name, arguments.size, arguments.sigma)
        return w / w.sum() if name == "gaussian-template" else w
    if not Path(name).is_file():
        from difflib import get_close_matches

        near = get_close_matches(name, [each for each in (*filters.KERNELS, *filters.MAGNITUDES) if each != name], 1)
        hint = f"; did you mean {near[0]}?" if near else "; rot180 filter --list shows the kernels"
        raise SettingError(f"{name} is neither a kernel's name nor a file{hint}")
    if arguments.size is not None or arguments.sigma is not None:
        raise SettingError("--size and --sigma are for kernels by name: a file says it all")
    return filters.read_kernel(name)


def _maps(picture: "Image.Image") -> Array:
    """(C, H, W): one map of grey or three of colour; what is transparent shows white."""
    from PIL import Image

    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    values = np.asarray(picture)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _save(picture: "Image.Image", path: Path) -> None:
    """The whole file or none."""
    content = io.BytesIO()
    picture.save(content, PICTURES[path.suffix.lower()])
    replace_file(path, content.getvalue())
