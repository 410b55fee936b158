"""What is said of samples: medians, spread, ratios by pairs, an interval."""
import random
import statistics

RESAMPLES = 2000


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


def bootstrap_interval(values, level=0.95, seed=1):
    """The median's confidence interval, by resampling; (low, high)."""
    rng = random.Random(seed)
    medians = sorted(
        statistics.median(rng.choices(values, k=len(values)))
        for _ in range(RESAMPLES))
    tail = (1 - level) / 2
    return (medians[int(tail * (RESAMPLES - 1))],
            medians[int(round((1 - tail) * (RESAMPLES - 1)))])


def compare(ours, theirs):
    """Median ratio of the pairs, its interval, and how many pairs; or None."""
    ratios = pair_ratios(ours, theirs)
    if not ratios:
        return None
    low, high = bootstrap_interval(ratios)
    return {"ratio": statistics.median(ratios), "low": low, "high": high,
            "pairs": len(ratios)}
