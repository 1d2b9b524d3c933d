"""Compare objectives side by side: compare_tca.py --data FOLDER --out runs/mine."""

import sys

from baselines.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
