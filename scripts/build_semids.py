"""Build semantic IDs: build_semids.py --data FOLDER --tokenizer rqkmeans --out ids/."""

import sys

from baselines.cli import main

if __name__ == "__main__":
    sys.exit(main(["build", *sys.argv[1:]]))
