"""Run the benchmarks, and write what they print and draw to docs/benchmarks.md.

python benchmarks/report.py [NAME ...]

With names of scripts, only those are run, and the other sections of the page stay as they are. Sections of
real cutouts, and of real alerts, are made when the environment variables ZTF_SG_REAL_CUTOUTS and
ZTF_SG_REAL_ALERTS name folders of them.
"""

import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from conclusions import conclusion

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
REAL, REAL_ALERTS = "$ZTF_SG_REAL_CUTOUTS", "$ZTF_SG_REAL_ALERTS"
FOLDERS = {name: os.environ.get(name[1:]) for name in (REAL, REAL_ALERTS)}
PLOT, SCRATCH = "PLOT", "FOLDER"  # stand for the figure of a section and for a folder that is thrown away
INTRODUCTION = """# Benchmarks

`make bench` writes this page: each section is what a script printed and drew, below a sentence of conclusion;
the script's docstring says what is measured on what. Seconds are those of one machine; compare the ratios and
the curves, each taken in one run.
"""
# The command of each section, in order; scripts are in benchmarks/ or tools/.
SECTIONS = {
    "Prediction beside stock MuyGPyS": "prediction_speed",
    "The first classification in a new process": "first_use",
    "Cost against the number of predictions and of training points": f"scaling --plot {PLOT}",
    "Reading cutouts, and the job of notebook 3": "reading_speed",
    "Features of cutouts": "features_speed",
    "A survey of a million objects": "survey",
    "Simulating cutouts": f"simulate {SCRATCH}",
    "Fetching cutouts: requests": "fetch_requests",
    "Fetching cutouts: faults": "fetch_faults --cutouts 2000",
    "Positions of one's own, end to end": "own_objects",
    "Positions of one's own, from a faulty archive": "own_objects --live 200",
    "Accuracy on the bundled cutouts": "accuracy",
    "Ablation on the bundled cutouts": "ablation",
    "Kinds of PSFs that the training set has not": "unseen_psfs",
    "Several images of one object": f"combining --plot {PLOT}",
    "Moving objects: streaks": "streaks",
    "Moving objects: real alerts": f"moving {REAL_ALERTS}",
    "Trails in whole images": f"trails --fields 40 --quadrants 0 --plot {PLOT}",
    "Trails in quadrants that have none": "trails --fields 0 --quadrants 10",
    "Reading real cutouts, and the job of notebook 3": f"reading_speed {REAL}",
    "Realism of the simulated cutouts": f"realism {REAL}",
    "Accuracy on real cutouts": f"accuracy {REAL}",
    "Ablation on real cutouts": f"ablation {REAL}",
}


def main():
    """Run what is asked for, and write the page after each section."""
    missing = {name for name, folder in FOLDERS.items() if not folder}
    sections = {title: command.split() for title, command in SECTIONS.items()}
    sections = {title: command for title, command in sections.items() if not missing & set(command)}
    names = {command[0] for command in sections.values()}
    wanted = set(sys.argv[1:]) or names
    if wanted - names:
        raise SystemExit(f"no section is made by {', '.join(wanted - names)}")
    for title, (name, *arguments) in sections.items():
        if name in wanted:
            print(f"{title}: {SECTIONS[title]}", flush=True)
            write_page(read_page() | {title: section(title, name, arguments)})


def section(title, name, arguments):
    """Run a script; return its section of the page."""
    script = next(path for path in ROOT.glob(f"*/{name}.py") if path.parent.name in ("benchmarks", "tools"))
    figure = PAGE.with_suffix("") / f"{name}.png"
    figure.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        values = {PLOT: str(figure), SCRATCH: f"{scratch}/made"} | FOLDERS
        command = [sys.executable, script, *(values.get(argument, argument) for argument in arguments)]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if run.returncode:
        print(f"{name} failed", file=sys.stderr)
        run.stdout += f"\nfailed: exit status {run.returncode}"
    shown = " ".join(["python", str(script.relative_to(ROOT)), *arguments]).replace(PLOT, figure.name)
    drawn = [f"![{title}]({figure.parent.name}/{figure.name})", ""] if PLOT in arguments else []
    printed = run.stdout.strip("\n").rstrip()
    found = conclusion(title, printed)
    concluded = [found, ""] if found else []
    lines = [f"## {title}", "", *concluded, f"`{shown}`, {date.today()}", "", *drawn]
    return "\n".join([*lines, "```", printed, "```", ""])


def read_page():
    """Return the sections of the page by title."""
    parts = re.split(r"^(?=## )", PAGE.read_text(), flags=re.MULTILINE)[1:] if PAGE.exists() else []
    return {part.splitlines()[0].removeprefix("## "): part for part in parts}


def write_page(known):
    """Write the sections that there are, in order."""
    parts = [known[title].rstrip() + "\n" for title in SECTIONS if title in known]
    PAGE.write_text("\n".join([INTRODUCTION, *parts]))


if __name__ == "__main__":
    main()
