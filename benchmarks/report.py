"""Run the benchmarks, and write what they print and draw to docs/benchmarks.md.

python benchmarks/report.py [NAME ...]

With names of scripts, only those are run, and the other sections of the page stay as they are. Those of real
cutouts are run when the environment variable ZTF_SG_REAL_CUTOUTS names their folder.
"""

import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
REAL = "ZTF_SG_REAL_CUTOUTS"
PLOT = "PLOT"  # stands for the file that a script is to draw
INTRODUCTION = """# Benchmarks

`make bench` writes this page: each section is what a script of `benchmarks/` printed and drew; its docstring
says what is measured on what. Seconds are those of one machine; what travels are the ratios and the curves,
each taken in one run.
"""
# What is run for each section, in order; {scratch} is a folder that is thrown away.
SECTIONS = {
    "Prediction beside stock MuyGPyS": "prediction_speed",
    "The first classification in a new process": "first_use",
    "Cost against the number of predictions and of training points": f"scaling --plot {PLOT}",
    "Reading cutouts": "reading_speed",
    "Reading and normalizing: the job of notebook 3": "normalization_job",
    "A survey of a million objects": "survey",
    "Simulating cutouts": "simulate {scratch}/cutouts",
    "Fetching cutouts: requests": "fetch_requests",
    "Fetching cutouts: faults": "fetch_faults --cutouts 2000",
    "Accuracy on the bundled cutouts": "accuracy",
    "Ablation on the bundled cutouts": "ablation",
}
SECTIONS_OF_REAL = {
    "Reading real cutouts": f"reading_speed ${REAL}",
    "The job of notebook 3 on real cutouts": f"normalization_job ${REAL} --repeats 5 --no-row-by-row",
    "Realism of the bundled cutouts": f"realism --repeats 3 cutouts_test ${REAL}",
    "Accuracy on real cutouts": f"accuracy ${REAL}",
    "Ablation on real cutouts": f"ablation ${REAL}",
}


def main():
    """Run what is asked for, and write the page after each section."""
    sections = SECTIONS | (SECTIONS_OF_REAL if os.environ.get(REAL) else {})
    wanted = sys.argv[1:] or {command.split()[0] for command in sections.values()}
    unknown = set(wanted) - {command.split()[0] for command in sections.values()}
    if unknown:
        raise SystemExit(f"no section is made by {', '.join(unknown)}")
    for title, command in sections.items():
        if command.split()[0] in wanted:
            print(f"{title}: {command}", flush=True)
            made = section(title, command)
            write_page(read_page() | {title: made})


def section(title, command):
    """Run a script; return its section of the page."""
    name, *arguments = command.split()
    picture = PAGE.with_suffix("") / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        filled = [
            argument.format(scratch=scratch)
            .replace(PLOT, str(picture))
            .replace(f"${REAL}", os.environ.get(REAL, ""))
            for argument in arguments
        ]
        script = [sys.executable, HERE / f"{name}.py", *filled]
        run = subprocess.run(script, capture_output=True, text=True, cwd=HERE.parent)
    if run.returncode:
        print(f"{name} failed:\n{run.stderr}", file=sys.stderr)
    shown = command.replace(PLOT, picture.name).replace("{scratch}/cutouts", "FOLDER").split(" ", 1)
    lines = [f"## {title}", "", f"`python benchmarks/{name}.py{' ' + shown[1] if len(shown) > 1 else ''}`, "]
    lines[-1] += f"{date.today()}"
    if PLOT in arguments:
        lines += ["", f"![{title}]({picture.parent.name}/{picture.name})"]
    printed = run.stdout.rstrip() + (f"\nfailed: exit status {run.returncode}" if run.returncode else "")
    return "\n".join([*lines, "", "```", printed, "```", ""])


def read_page():
    """Return the sections of the page by title."""
    if not PAGE.exists():
        return {}
    parts = re.split(r"^(?=## )", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].removeprefix("## "): part for part in parts}


def write_page(known):
    """Write the sections that there are, in order."""
    titles = [title for title in SECTIONS | SECTIONS_OF_REAL if title in known]
    PAGE.write_text("\n".join([INTRODUCTION, *(known[title].rstrip() + "\n" for title in titles)]))


if __name__ == "__main__":
    main()
