"""Executable contracts of the parts that can be plugged in.

Testing your own part takes one line, and a failure names the broken clause::

    from baselines.testing import check_teacher

    def test_my_teacher_keeps_the_contract():
        check_teacher(MyTeacher)

The contracts of ID schemes and collision strategies are in `semid.testing`.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
