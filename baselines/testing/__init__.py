"""The contracts of what can be plugged in, in executable form.

A test of a part of your own is one line, and a failure names the clause that is broken::

    from baselines.testing import check_teacher

    def test_my_teacher_keeps_the_contract():
        check_teacher(MyTeacher)

ID schemes and collision strategies have theirs in `semid.testing`.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
