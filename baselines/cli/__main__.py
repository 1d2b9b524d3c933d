"""``python -m baselines.cli`` is the console command ``semid``."""

import sys

from baselines.cli import main

if __name__ == "__main__":
    sys.exit(main())
