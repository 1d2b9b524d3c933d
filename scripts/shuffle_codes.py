"""Give the codes of a JSON file to other items: shuffle_codes.py CODES.json SHUFFLED.json.

The control for what codes say of their items: the tree stays the same, and each path leads to a
random item.
"""

import json
import random
import sys
from pathlib import Path


def main(source: str, target: str) -> None:
    """Write the codes of ``source`` to ``target``, always shuffled the same way."""
    codes = json.loads(Path(source).read_text(encoding="utf-8"))
    others = list(codes.values())
    random.Random(0).shuffle(others)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(zip(codes, others, strict=True)))
    Path(target).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
