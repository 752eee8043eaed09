"""The command ``ztf-sg``: a list of positions, cutouts or alerts in; classes out.

What takes long to load is imported by the functions that need it, so that ``ztf-sg --help`` answers at once.
"""

import argparse
import os
import shutil
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

FINE, FAULT, USAGE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130
BANDS = ("g", "r", "i")
PLOTTED = 24  # objects on the page of the most uncertain ones
LETTERS = 16  # that fit above the cutout of a band
PICTURES = (".png", ".pdf", ".svg", ".jpg")
OF_LISTS = ("filters", "images", "max_seeing", "workers", "directory", "offline")  # what cutouts do without
DESCRIPTION = """Tell stars from galaxies in images of the Zwicky Transient Facility (ZTF), and asteroids and
satellites from all else in its alerts."""
EPILOG = """exit status:
  0    all is done
  1    an error, which is said in one line
  2    the command line is wrong
  3    the archive did not deliver all images: run the same command again, and it goes on
  130  stopped by Ctrl-C: run the same command again, and it goes on

An account at IRSA is needed for proprietary images only; see docs/live.md of the project.
"""
OUTPUT = "table: .csv, .ecsv, .vot, .xml or .parquet"
MAX_ERROR = "largest share of errors among unambiguous objects (0.01)"
CLASSIFY = """Classify the objects of a list of positions: their images are searched for and fetched from
IRSA, or simulated with --offline. Or classify cutouts that are there: a folder of FITS files or Parquet
files, or a Parquet file with a column image.

The list is a table with columns such as RA and DEC [deg, ICRS]: CSV, ECSV, VOTable, FITS, Parquet and others.
"""
CLASSIFY_EXAMPLE = """example:
  ztf-sg classify positions.csv --filters g r i --images 3 --output classes.parquet
"""
FETCH_EXAMPLE = """example:
  ztf-sg fetch positions.csv cutouts --filters r --images 1
"""
MOVING = """Tell asteroids, satellites and others in alerts: an Avro, Parquet or FITS file, a tarball of them,
or a folder. Flashes of a satellite in one exposure are linked, as one alone looks like an asteroid.
"""
MOVING_EXAMPLE = """example:
  ztf-sg moving alerts.tar.gz --output moving.parquet
"""


def main(arguments=None):
    """Run the command with some arguments, by default those of the command line; return its exit status."""
    options = _parser().parse_args(arguments)
    with _one_line_warnings():
        try:
            with redirect_stdout(sys.stderr):  # for what libraries print: standard output is for the summary
                summary, status = options.run(options)
            _print(summary)
            return status
        except KeyboardInterrupt as error:
            _say(str(error) or "stopped; run it again to go on")
            return INTERRUPTED
        except Exception as error:
            if options.debug:
                raise
            _say(_message(error))
            return FAULT


def _parser():
    general = argparse.ArgumentParser(add_help=False)
    general.add_argument("--debug", action="store_true", help="show the traceback of an error")
    shared = argparse.ArgumentParser(add_help=False, parents=[general])
    shared.add_argument(
        "--filters", nargs="+", choices=BANDS, metavar="BAND", help="some of g, r and i (all of them)"
    )
    shared.add_argument("--images", type=_count, help="images of each object in each filter (3)")
    shared.add_argument(
        "--max-seeing",
        type=_positive,
        metavar="X",
        help="only images sharper than this [arcsec, FWHM] (1.85)",
    )
    shared.add_argument("--offline", action="store_true", help="simulate the sky, at RA 5 to 6.8 deg")
    parser = argparse.ArgumentParser(
        "ztf-sg", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version, and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="classify | fetch | moving")
    _add_classify(commands, shared)
    _add_fetch(commands, shared)
    _add_moving(commands, general)
    return parser


def _add_classify(commands, shared):
    classify = commands.add_parser(
        "classify",
        parents=[shared],
        help="positions or cutouts in, classes out",
        description=CLASSIFY,
        epilog=CLASSIFY_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = classify.add_argument
    add("source", metavar="LIST_OR_CUTOUTS", help="file of positions; or folder or Parquet file of cutouts")
    add("--output", required=True, metavar="FILE", help=OUTPUT)
    add("--directory", metavar="DIR", help="keep cutouts there (else FILE.parts, removed when all is done)")
    add("--galaxy-fraction", type=_share, metavar="X", help="share of galaxies that is presumed (0.5)")
    add("--max-error", type=_error_share, default=0.01, metavar="X", help=MAX_ERROR)
    add("--workers", type=_count, metavar="N", help="processes at work at a time (1)")
    add("--plot", metavar="FILE", help="draw the most uncertain objects")
    classify.set_defaults(run=_classify, fail=classify.error)


def _add_fetch(commands, shared):
    fetch = commands.add_parser(
        "fetch",
        parents=[shared],
        help="positions in, FITS cutouts out",
        description="Fetch the cutouts of a list of positions into a folder, to be classified later.",
        epilog=FETCH_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fetch.add_argument("source", metavar="LIST", help="file of positions")
    fetch.add_argument("folder", metavar="FOLDER", help="for the cutouts and their manifest.csv")
    fetch.set_defaults(run=_fetch)


def _add_moving(commands, general):
    moving = commands.add_parser(
        "moving",
        parents=[general],
        help="alerts in, asteroids and satellites out",
        description=MOVING,
        epilog=MOVING_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    moving.add_argument("source", metavar="ALERTS", help="file, tarball or folder of alerts")
    moving.add_argument("--output", required=True, metavar="FILE", help=OUTPUT)
    moving.add_argument("--max-error", type=_error_share, default=0.01, metavar="X", help=MAX_ERROR)
    moving.set_defaults(run=_moving, fail=moving.error, plot=None)


def _classify(options):
    """Classify a list or cutouts, and write the table; return a summary and the exit status."""
    from ztf_sg.own_objects import classify_cutouts, classify_positions, holds_cutouts
    from ztf_sg.own_objects.output import write_classes
    from ztf_sg.own_objects.results import is_incomplete, summarize

    output = _checked_output(options)
    assumed = {"galaxy_fraction": options.galaxy_fraction, "max_error": options.max_error}
    if holds_cutouts(options.source):
        _refuse_options_of_lists(options)
        cutouts, directory = options.source, None
        table = classify_cutouts(options.source, **assumed)
    else:
        directory = Path(options.directory) if options.directory else _folder_of_parts(output)
        cutouts = directory / "cutouts"
        asked = _request(options) | {"workers": options.workers or 1, "progress": sys.stderr.isatty()}
        table = classify_positions(options.source, directory, _service(options), **asked, **assumed)
    write_classes(table, output)
    if options.plot:
        _plot(table, cutouts, options.plot)
    if is_incomplete(table).any():
        return summarize(table), INCOMPLETE
    if directory and not options.directory:
        shutil.rmtree(directory)
    return summarize(table), FINE


def _moving(options):
    """Classify alerts, and write the table; return a summary and the exit status."""
    from ztf_sg.own_objects.output import write_classes
    from ztf_sg.streaks.classify import classify_alerts, summarize

    output = _checked_output(options)
    table = classify_alerts(options.source, max_error=options.max_error)
    write_classes(table, output)
    return summarize(table), FINE


def _checked_output(options):
    """Return the path of the table; raise an error if it, or the plot, cannot be written, before any work."""
    from ztf_sg.files import local_path
    from ztf_sg.own_objects.output import WRITERS, check_output

    try:
        output = check_output(options.output, WRITERS)
        if options.plot:
            check_output(options.plot, PICTURES)
    except ValueError as error:
        options.fail(error)
    source = local_path(options.source)
    if source.exists() and output.exists() and output.samefile(source):
        raise ValueError(f"{output}: is what is to be classified; name another file for --output")
    if output.suffix.lower() == ".parquet" and output.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{output}: would be read as well in the next run; name a file beside {source}")
    return output


def _folder_of_parts(output):
    """Return the folder that keeps what is done until all is; it is removed then, so it must be a run's."""
    from ztf_sg.cutouts.listing import RESULTS

    folder = Path(f"{output}.parts")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RESULTS).is_dir():
        raise FileExistsError(f"{folder}: holds other files; move them, or name a folder with --directory")
    return folder


def _fetch(options):
    """Fetch the cutouts of a list; return a summary and the exit status."""
    from ztf_sg.fetching import fetch_cutouts
    from ztf_sg.positions import object_list

    objects = object_list(options.source).drop(columns="type", errors="ignore")
    service = _service(options)
    if service is None:
        from ztf_sg.services.irsa import Irsa

        service = Irsa()
    progress = sys.stderr.isatty()
    manifest = fetch_cutouts(objects, options.folder, service, **_request(options), progress=progress)
    counts = manifest["status"].str.split(":").str[0].value_counts()
    outcomes = ", ".join(f"{kind} {counts.get(kind, 0)}" for kind in ("saved", "skipped", "failed"))
    lines = [f"objects {len(objects)}, images wanted {len(manifest)}: {outcomes}"]
    faults = objects.loc[objects["fault"] != "", "fault"]
    if len(faults):
        lines.append(f"bad rows {len(faults)}, the first, row {faults.index[0]}: {faults.iloc[0]}")
    return "\n".join(lines), INCOMPLETE if counts.get("failed") else FINE


def _request(options):
    """Return the arguments that say which images are wanted."""
    request = {"filters": [f"z{band}" for band in options.filters or BANDS], "n_images": options.images or 3}
    return request if options.max_seeing is None else request | {"max_seeing": options.max_seeing}


def _service(options):
    """Return the simulated sky if that is asked for; None is the archive."""
    if not options.offline:
        return None
    from ztf_sg.simulation import MockSky

    return MockSky()


def _refuse_options_of_lists(options):
    given = [name for name in OF_LISTS if getattr(options, name) not in (None, False)]
    if given:
        name = given[0].replace("_", "-")
        options.fail(f"--{name} goes with a list of positions, and {options.source} holds cutouts")


def _plot(table, cutouts, path):
    """Draw the most uncertain objects of a table of results."""
    import matplotlib

    matplotlib.use("agg")
    from ztf_sg.files import atomic_write
    from ztf_sg.own_objects import images_by_band
    from ztf_sg.plotting import plot_objects

    classified = table[table["class"] != ""]
    order = (classified["p_galaxy"] - 0.5).abs().sort_values(kind="stable").index
    shown = classified.loc[order[:PLOTTED]]
    if shown.empty:
        warnings.warn(f"{path}: not drawn, as no object has a class", stacklevel=2)
        return
    bands = [band for band in BANDS if shown["filters"].str.contains(band).any()]
    shortened = shown["name"].astype(str).str[: LETTERS * len(bands) - len("  0.50")]
    names = [f"{name}  {p:.2f}" for name, p in zip(shortened, shown["p_galaxy"], strict=True)]
    figure = plot_objects(
        images_by_band(cutouts, shown),
        names,
        labels=(shown["class"] == "galaxy").astype(int),
        bands=bands,
        title=f"The {len(shown)} most uncertain of {len(table)} objects, with the probability of a galaxy",
    )
    with atomic_write(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:].lower(), dpi=150)


@contextmanager
def _one_line_warnings():
    """Have warnings said in one line each, without the place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
        yield


def _message(error):
    """Return what to say of an error, in one line; one that is not expected is named."""
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
    if isinstance(error, OSError | ValueError | TypeError | LookupError | RuntimeError | ImportError):
        return text
    return f"{type(error).__name__}: {text}; run it with --debug for more"


def _print(text):
    """Print text, unless whoever read it has gone, as after ``| head``."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
        if not isinstance(error, BrokenPipeError):
            raise


def _say(text):
    print(f"ztf-sg: {text}", file=sys.stderr)


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, got {text!r}")
    return int(text)


def _share(text):
    share = _number(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return share


def _error_share(text):
    share = _number(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0 and below 1, got {text!r}")
    return share


def _positive(text):
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def _number(text):
    try:
        return float(text)
    except ValueError:
        return float("nan")


class _Version(argparse.Action):
    """Print the version, which takes a while to find, only if it is asked for."""

    def __call__(self, parser, *_):
        from importlib.metadata import version

        print(f"ztf-sg {version('ztf_sg')}")
        parser.exit(FINE)
