"""Which factors spoke for an item, step by step through a history and for each recommendation."""

from mfgan.explain.explainer import Explainer, Explanation
from mfgan.explain.faithfulness import Agreement, Faithfulness, faithfulness
from mfgan.explain.judgement import Judge, Judgements
from mfgan.explain.score_parts import ScoreParts

__all__ = [
    "Agreement",
    "Explainer",
    "Explanation",
    "Faithfulness",
    "Judge",
    "Judgements",
    "ScoreParts",
    "faithfulness",
]
