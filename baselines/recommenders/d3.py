"""D3: a language model whose decoding neither favours long titles nor dilutes scores."""

from __future__ import annotations

from typing import ClassVar

from baselines.backbones.language import LanguageBackbone


class D3Backbone(LanguageBackbone):
    """D3, "Decoding Matters" (arXiv:2406.14900).

    Its two corrections of the search are what ``LanguageBackbone`` does by itself: scores are not
    divided by length, and a token without rival ("ghost token") has probability one, so that it
    changes no score. The released code does the first alone: its probabilities are those of the
    whole vocabulary (``renormalize="none"``), by which such a token may cost. Its third part, a
    collaborative model's opinion on every step, is the comparison's ``fusion``
    (``semid.fusion.Fusion`` with ``tca.guide.TeacherGuide``).
    """

    shares_weights_with: ClassVar[str | None] = "lm"
    label: ClassVar[str] = "D3"
