"""What is said of samples: medians, spread, ratios by pairs, an interval."""
import math
import statistics


def median(values):
    return statistics.median(values)


def spread(values):
    """Half the range between the quartiles, as a share of the median."""
    middle = statistics.median(values)
    if len(values) < 2 or not middle:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / abs(middle)


def pair_ratios(ours, theirs):
    """Round by round; rounds that either side lacks (None) are left out."""
    return [a / b for a, b in zip(ours, theirs, strict=False)
            if a is not None and b is not None and b]


def interval(values, level=0.95):
    """The median's confidence interval, (low, high), whatever the distribution.

    By order statistics: the chance that the true median lies beyond the k-th
    value from either end is that of fewer than k heads in as many tosses. With
    fewer than six values it is their whole range, and not quite the level.
    """
    ordered, n = sorted(values), len(values)
    k, tail = 0, 0.0
    while k < n // 2:
        tail += math.comb(n, k) / 2 ** n
        if 2 * tail > 1 - level:
            break
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def compare(ours, theirs):
    """Median ratio of the pairs, its interval, and how many pairs; or None."""
    ratios = pair_ratios(ours, theirs)
    if not ratios:
        return None
    low, high = interval(ratios)
    return {"ratio": statistics.median(ratios), "low": low, "high": high,
            "pairs": len(ratios)}
