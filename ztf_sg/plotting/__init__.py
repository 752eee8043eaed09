"""Figures of the notebooks. Every function makes a new one, and returns its Axes or, if many, the Figure.

Labels are 0 star, 1 galaxy, -1 unknown; those of moving objects 0 other, 1 asteroid, 2 satellite, -1 unknown.
`new_axes` and `describe` serve the displays of scikit-learn; the marker `RETICLE` points at an
object and leaves it free. `LabelCutouts` is for labels by eye.
"""

from ztf_sg.plotting.classification import (
    plot_accuracies,
    plot_accuracy_by_magnitude,
    plot_accuracy_by_seeing,
    plot_calibration,
    plot_muygps_sketch,
    plot_posterior_1d,
    plot_uncertainty,
)
from ztf_sg.plotting.cutouts import (
    plot_cutout,
    plot_cutouts,
    plot_normalization_gallery,
    plot_objects,
    plot_pixel_histograms,
    plot_profiles,
)
from ztf_sg.plotting.labelling import LabelCutouts
from ztf_sg.plotting.moving import (
    plot_flashes,
    plot_line_search,
    plot_rates,
    plot_roc_and_recall,
    plot_trails,
    plot_triplets,
)
from ztf_sg.plotting.sky import (
    plot_colour_colour,
    plot_cut_report,
    plot_finding_charts,
    plot_footprints,
    plot_magnitude_counts,
    plot_motions,
    plot_neighbours,
    plot_sky_density,
    plot_sky_map,
    plot_type_shapes,
)
from ztf_sg.plotting.style import RETICLE, describe, new_axes

__all__ = [
    "LabelCutouts",
    "RETICLE",
    "describe",
    "new_axes",
    "plot_accuracies",
    "plot_accuracy_by_magnitude",
    "plot_accuracy_by_seeing",
    "plot_calibration",
    "plot_colour_colour",
    "plot_cut_report",
    "plot_cutout",
    "plot_cutouts",
    "plot_finding_charts",
    "plot_flashes",
    "plot_footprints",
    "plot_line_search",
    "plot_magnitude_counts",
    "plot_motions",
    "plot_muygps_sketch",
    "plot_neighbours",
    "plot_normalization_gallery",
    "plot_objects",
    "plot_pixel_histograms",
    "plot_posterior_1d",
    "plot_profiles",
    "plot_rates",
    "plot_roc_and_recall",
    "plot_sky_density",
    "plot_sky_map",
    "plot_trails",
    "plot_triplets",
    "plot_type_shapes",
    "plot_uncertainty",
]
