"""What a network has learned and why it answers as it does: attributions, pages for an image, a run's report."""

from rot180.explain.attribution import (
    deconvnet,
    feature_maps,
    grad_cam,
    guided_backpropagation,
    occlusion,
    saliency,
)
from rot180.explain.image_page import explain_image, image_page
from rot180.explain.report import write_report

__all__ = [
    "deconvnet",
    "explain_image",
    "feature_maps",
    "grad_cam",
    "guided_backpropagation",
    "image_page",
    "occlusion",
    "saliency",
    "write_report",
]
