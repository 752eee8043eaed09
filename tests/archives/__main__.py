"""Serve the archives from a process of their own: ``python tests/archives --fault-rate 0.25``.

Prints the base URL once it is ready; serves until killed, or until the pipe at its standard input closes.
"""

import argparse
import contextlib
import signal
import stat
import sys
from os import fstat
from pathlib import Path

# run as a folder, which has the place of the tests folder on the path
sys.path[0] = str(Path(__file__).resolve().parents[1])

with contextlib.redirect_stdout(sys.stderr):  # astroquery may print a remark when imported
    from archives import KINDS, ArchiveServer


def main():
    parser = argparse.ArgumentParser(description=__doc__, prog="python tests/archives")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--sky-seed", type=int, default=1)
    parser.add_argument("--images", type=int, help="number of images; all by default")
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of faults, separated by commas")
    parser.add_argument("--stall", type=float, default=5.0, help="how long a fault keeps silent [s]")
    parser.add_argument("--account", action="append", default=[], help="USER:PASSWORD; has all rights")
    parser.add_argument("--account-without-rights", action="append", default=[], help="USER:PASSWORD")
    parser.add_argument("--proprietary", type=float, default=0.0, help="share of the images")
    parser.add_argument(
        "--tap-polls", type=int, default=1, help="before a job ends; each takes 0.25 s or more"
    )
    parser.add_argument("--tap-row-limit", type=int)
    parser.add_argument("--tap-area-limit", type=float, help="[deg2]")
    parser.add_argument("--warm", action="store_true", help="make all images first, 38 MB and 0.7 s each")
    args = parser.parse_args()
    given = [(text, True) for text in args.account] + [(text, False) for text in args.account_without_rights]
    accounts = {user: (password, rights) for text, rights in given for user, password in [text.split(":", 1)]}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leave no temporary files behind
    with ArchiveServer(
        seed=args.sky_seed,
        n_images=args.images,
        accounts=accounts,
        proprietary=args.proprietary,
        fault_rate=args.fault_rate,
        kinds=args.kinds.split(","),
        fault_seed=args.seed,
        stall=args.stall,
        tap_polls=args.tap_polls,
        tap_row_limit=args.tap_row_limit,
        tap_area_limit=args.tap_area_limit,
        port=args.port,
    ) as server:
        if args.warm:
            for quadrant in server.sky.quadrants.values():
                quadrant.file_bytes()
        print(server.url, flush=True)
        if stat.S_ISFIFO(fstat(0).st_mode):
            sys.stdin.read()
        else:
            signal.pause()


main()
