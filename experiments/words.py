"""Numbers as text: whatever a table, a sentence or a page shows of a number is written here."""

import statistics
from collections.abc import Callable
from typing import Any

NOTHING = "–"


def enumerate_words(words: list[str]) -> str:
    """`"a, b and c"`."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def estimate_text(estimate: Any, form: str = ".3f") -> str:
    """``"1.523"``, ``"1.523 (1.519–1.527)"`` for two values, ``"1.523 ± 0.004"`` for more.

    The form is one for `format`: with ".1%" it is ``"97.2% ± 0.4"``.
    """
    mean = format(estimate.mean, form)
    scale, form = (100, f"{form[:-1]}f") if form.endswith("%") else (1, form)
    if estimate.count == 1:
        return mean
    if estimate.count == 2:
        return f"{mean} ({scale * estimate.low:{form}}–{scale * estimate.high:{form}})"
    return f"{mean} ± {scale * (estimate.high - estimate.mean):{form}}"


def counts_text(counts: list[int]) -> str:
    """The median, and the range if there are several: ``"5,000 (4,000–7,000)"``."""
    if not counts:
        return NOTHING
    text = f"{statistics.median(counts):,.0f}"
    return f"{text} ({min(counts):,}–{max(counts):,})" if len(counts) > 1 else text


def share_text(successes: int, runs: int) -> str:
    """How many of the runs, and from three on the 95 % Wilson interval of the share."""
    counts = f"{successes} of {runs}"
    if runs < 3:
        return counts
    low, high = share_interval(successes, runs)
    return f"{counts} ({low:.0%}–{high:.0%})"


def share_interval(successes: int, tries: int) -> tuple[float, float]:
    """The 95 % Wilson interval of the share of successes."""
    from scipy import stats  # the command's help does not wait for SciPy

    interval = stats.binomtest(successes, tries).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def ratio_text(ratio: float | None) -> str:
    """Two significant digits: ``0.41``, ``1.0``, ``12``, ``2.1e-7``; a dash for None."""
    if ratio is None:
        return NOTHING
    if ratio == 0 or 1e-3 <= ratio < 1e4:
        return f"{ratio:#.2g}".rstrip(".") if ratio < 100 else f"{ratio:.0f}"
    mantissa, exponent = f"{ratio:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def median_text(values: list[float], text: Callable[[Any], str] = ratio_text) -> str:
    """The median in the words of `text`, by default as a ratio; a dash without values."""
    return text(statistics.median(values)) if values else NOTHING


def ratios_text(ratios: list[float]) -> str:
    """The median, and the range if there are several: ``"0.41 (0.2–0.8)"``."""
    text = median_text(ratios)
    if len(ratios) > 1:
        text += f" ({ratio_text(min(ratios))}–{ratio_text(max(ratios))})"
    return text


def seconds_text(values: list[float]) -> str:
    """The mean, without digits behind the point."""
    return f"{statistics.fmean(values):.0f}"


def duration_text(seconds: float) -> str:
    """``"about 45 s"``, ``"about 12 min"`` or ``"about 3.5 h"``."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
