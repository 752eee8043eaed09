"""``python -m ztf_sg`` does what the command ``ztf-sg`` does."""

import sys

from ztf_sg.cli import main

if __name__ == "__main__":
    sys.exit(main())
