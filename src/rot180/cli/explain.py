"""show why a network answers as it does, for one picture, as a web page

What the winning score rests on (saliency, guided backpropagation, deconvnet, Grad-CAM, occlusion), what every layer
makes of the picture, and the arithmetic from the score down to a pixel: docs/explain.md

  rot180 explain runs/lenet-5-mnist-1 digit.png
  rot180 explain runs/lenet-5-mnist-1 digit.png --class 7 --out seven.html
"""

import argparse
from pathlib import Path

from rot180.cli.output import percent, print_json
from rot180.cli.trained import HELP, configure_pixels, load_to_use


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, metavar="RUN", help=HELP)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="JPEG, PNG, GIF, BMP, TIFF or WebP")
    parser.add_argument(
        "--class", dest="label", metavar="NAME", help="explain this class's score (default: the winner's)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="PAGE", help="where the page goes (default: IMAGE-explained.html, here)"
    )
    configure_pixels(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explain, write the page, say where."""
    from rot180.errors import SettingError
    from rot180.explain import explain_image, image_page
    from rot180.files import replace_file

    trained = load_to_use(arguments.folder, arguments.pixels)
    network, prepared = trained.network, trained.preparation
    names = network.class_names
    if arguments.label is not None and arguments.label not in names:
        raise SettingError(f"there is no class {arguments.label!r}: choose one of {', '.join(names)}")
    label = None if arguments.label is None else names.index(arguments.label)
    original = trained.image_of(arguments.image)
    image = prepared.apply(original[None])[0] if prepared else original
    found = explain_image(network, image, label)
    page = arguments.out or Path(f"{arguments.image.stem}-explained.html")
    if arguments.out or not arguments.json:
        replace_file(page, image_page(network, found, arguments.image.name, original if prepared else None))
    best = int(found.probabilities.argmax())
    if arguments.json:
        print_json(
            {
                "image": str(arguments.image),
                "class": names[best],
                "explained": names[found.label],
                "probabilities": dict(zip(names, found.probabilities.tolist(), strict=True)),
                "maps": {name: values.tolist() for name, values in found.maps.items()},
                "arithmetic": [each.to_json() for each in found.path],
                "page": str(page) if arguments.out else None,
            }
        )
    else:
        print(f"{names[best]} ({percent(float(found.probabilities[best]))})\n{page}")
    return 0
