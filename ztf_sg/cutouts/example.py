"""The 40 cutouts that come with the package, to try things on wherever it is installed."""

from pathlib import Path

from ztf_sg.cutouts.cutout_set import CutoutSet

EXAMPLE = Path(__file__).with_name("example.parquet")  # tools/example.py writes it


def load_example():
    """Return the CutoutSet of 20 galaxies and 20 stars that come with the package, in this order.

    They are simulated, as their column origin says, in the i band and 20 x 20 px of 1.012 arcsec; each is
    one of the project's bundled cutouts, and has its name.

    Returns
    -------
    CutoutSet
        Images in detector counts [DN], shape (40, 20, 20); labels 1 (galaxy) and 0 (star); the table of
        metadata.

    Examples
    --------
    >>> from ztf_sg import load_example
    >>> load_example()
    CutoutSet(20 stars, 20 galaxies, 0 unknown; 20 x 20 px)
    """
    return CutoutSet.read_parquet(EXAMPLE)
