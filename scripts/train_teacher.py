"""Train a collaborative-filtering teacher: train_teacher.py --data FOLDER --out teachers/."""

import sys

from baselines.cli import main

if __name__ == "__main__":
    sys.exit(main(["teacher", "train", *sys.argv[1:]]))
