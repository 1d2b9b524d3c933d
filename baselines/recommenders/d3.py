"""D3: a language model decoded without length bias and without score dilution."""

from __future__ import annotations

from typing import ClassVar

from baselines.backbones.language import LanguageBackbone


class D3Backbone(LanguageBackbone):
    """D3, "Decoding Matters" (arXiv:2406.14900).

    ``LanguageBackbone`` already implements its two corrections of beam search: scores are not
    divided by length, and a token without alternatives ("ghost token") has probability one, so
    that it does not change the score. The released code does only the first: its probabilities are
    over the whole vocabulary (``renormalize="none"``), where such a token can cost. Its third
    part, a collaborative model's score at every step, is the comparison's ``fusion``
    (``semid.fusion.Fusion`` with ``tca.guide.TeacherGuide``).
    """

    shares_weights_with: ClassVar[str | None] = "lm"
    label: ClassVar[str] = "D3"
