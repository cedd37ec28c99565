"""The sentences and short strings that the report and the terminal share."""

from __future__ import annotations

from collections.abc import Sequence

from kansearch.report.architecture import family_name
from kansearch.report.comparison import Against, FamilyResult, Network
from kansearch.report.summary import Summary
from kansearch.specs.columns import Column
from kansearch.specs.metrics import METRICS
from kansearch.specs.trial import End, TrialRecord

CAVEAT = (
    "One seed was used for each trial, and all values were measured on the validation split that also chose these "
    "networks: they are not test values, and the best of many is flattered. Small differences may not survive "
    "fresh seeds."
)
"""What must stand beside every comparison."""

CONSTANT = "constant answer"

NONE = "\N{EN DASH}"
"""Stands in a table for what does not exist."""

_WHOLE = ("parameters", "flops")
_SHORT = {
    "accuracy": "accuracy",
    "cross_entropy": "cross entropy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "macro F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "parameters": "parameters",
    "flops": "FLOPs",
    "latency_ms": "latency (ms)",
    "train_seconds": "training (s)",
}
_NOTES = {
    "accuracy": "Accuracy is the share of validation examples whose class is right, from 0 to 1.",
    "cross_entropy": "Cross entropy is the mean negative log-probability of the true class, in nats; less is better.",
    "balanced_accuracy": "Balanced accuracy is the mean over classes of the share of their validation examples that "
    "are recognised: all classes count alike.",
    "f1": "Macro F1 is the mean over classes of F1, the harmonic mean of precision and recall.",
    "roc_auc": "ROC AUC is the area under the receiver operating characteristic of each class against all others, "
    "averaged over classes: how often an example of the class is ranked above one that is not; 0.5 is chance.",
    "average_precision": "Average precision is the area under the precision-recall curve of each class against all "
    "others, averaged over classes.",
    "rmse": "RMSE is the root of the mean squared error on the validation split, in units of the target.",
    "mae": "MAE is the mean absolute error on the validation split, in units of the target.",
    "r2": "R² is the share of the target's variance that is explained: 1 is perfect, 0 is as good as the mean.",
    "parameters": "Parameters are all trainable numbers of the network.",
    "flops": "FLOPs are the arithmetic operations that one input costs; a multiply-add counts as two.",
    "latency_ms": "Latency is the time that one input takes, in milliseconds, on the machine that measured it.",
    "train_seconds": "Training time is that of the trial itself, on the machine that trained it.",
}


def short_label(name: str) -> str:
    """A metric as a table's head names it."""
    return _SHORT.get(name, name.replace("_", " "))


def format_value(name: str, value: float | None) -> str:
    """A metric's value as tables show it."""
    if value is None:
        return NONE
    if name in _WHOLE or (value == int(value) and abs(value) >= 1000):
        return f"{value:,.0f}"
    if name in METRICS and METRICS[name].is_share:
        return f"{value:.4f}"
    return f"{value:.4g}"


def format_param(value: object) -> str:
    """A hyperparameter's value as tables show it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """A share in whole percent, or finer where that would read 0 or 100."""
    text = f"{share:.0%}"
    return f"{share:.2%}" if text in ("0%", "100%") and share not in (0, 1) else text


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def front_rows(summary: Summary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The front as a table of short strings: header and rows."""
    names = [objective.name for objective in summary.objectives]
    if "parameters" not in names and any("parameters" in member.metrics for member in summary.front):
        names.append("parameters")
    header = ("trial", "family", *(short_label(name) for name in names), "architecture")
    rows = [
        (
            str(member.trial),
            family_name(member.family),
            *(format_value(name, member.measured(name)) for name in names),
            member.architecture,
        )
        for member in summary.front
    ]
    return header, rows


def constant_row(summary: Summary) -> tuple[str, ...] | None:
    """What the constant answer measures, as one more row of the front's table; None where it is not known."""
    if summary.constant is None:
        return None
    header, _ = front_rows(summary)
    names = [objective.name for objective in summary.objectives]
    values = [format_value(name, summary.constant.metrics.get(name)) for name in names]
    rest = [NONE] * (len(header) - 3 - len(values))
    return (NONE, CONSTANT, *values, *rest, "the same for every row")


def constant_sentence(summary: Summary) -> str:
    """The bar that a constant answer sets, and whether anything passes it; empty where it is not known."""
    if summary.constant is None:
        return ""
    names = [o.name for o in summary.objectives if not o.is_cost and o.name in summary.constant.metrics]
    if not names:
        return ""
    values = _and([f"{short_label(name)} {format_value(name, summary.constant.metrics[name])}" for name in names])
    if summary.is_better_than_constant is False:
        which = "No network of the front is" if len(summary.front) > 1 else "The best network is not"
        return (
            f"{which} better than a constant answer, which is the same for every row and has {values}: nothing that "
            "helps was learned from the inputs."
        )
    return f"A constant answer, the same for every row, has {values}."


def finding(summary: Summary) -> str:
    """What came out, in one sentence; in two where it is no better than a constant answer."""
    found = _finding(summary)
    return f"{found} {constant_sentence(summary)}" if summary.is_better_than_constant is False else found


def _finding(summary: Summary) -> str:
    counts, front = summary.counts, summary.front
    if not counts["complete"]:
        words = {"pruned": ("was pruned", "were pruned"), "fail": ("failed", "failed")}
        words |= {state: (f"is {state}", f"are {state}") for state in ("running", "waiting")}
        others = [count(counts[state], *forms) for state, forms in words.items() if counts[state]]
        return "No trial is complete yet" + (f": {_and(others)}." if others else ".")
    if not front:
        if counts["complete"] == 1:
            return "The only complete trial does not meet every constraint."
        return f"None of {counts['complete']:,} complete trials meets every constraint."
    finished = count(sum(counts[state] for state in ("complete", "pruned")), "trial")
    quality = summary.objectives[0]
    best = max(front, key=lambda member: member.values[quality.name] * (1 if quality.maximize else -1))
    cheapest = front[0]
    if len(summary.objectives) == 1:
        return f"The best of {finished} is {_family(best)} (trial {best.trial}) with {_measured(best, summary)}."
    if len(front) == 1:
        return (
            f"Of {finished} one is the best in every objective: {_family(best)} (trial {best.trial}) with "
            f"{_measured(best, summary)}."
        )
    if best.trial == cheapest.trial:
        return f"{len(front)} of {finished} are on the front; the best has {_measured(best, summary)}."
    return (
        f"{len(front)} of {finished} are on the front: from {_measured(cheapest, summary)} ({_family(cheapest)}) "
        f"to {_measured(best, summary)} ({_family(best)})."
    )


def _family(member: Network) -> str:
    name = family_name(member.family)
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _measured(member: Network, summary: Summary) -> str:
    """The quality of a network and its first cost (or the second objective), in words."""
    quality, *others = summary.objectives
    others.sort(key=lambda objective: not objective.is_cost)
    words = []
    for objective in (quality, *others[:1]):
        value = format_value(objective.name, member.values[objective.name])
        match objective.name:
            case "parameters" | "flops":
                words.append(f"{value} {short_label(objective.name)}")
            case "latency_ms":
                words.append(f"{value} ms of latency")
            case "train_seconds":
                words.append(f"{value} s of training")
            case name:
                words.append(f"{short_label(name)} {value}")
    return _and(words)


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def verdict(summary: Summary) -> str:
    """Which family is better by how much, with how many parameters."""
    return " ".join(verdict_sentences(summary))


def verdict_sentences(summary: Summary) -> list[str]:
    """The verdict in pieces: a constant answer, the baseline, each family against it, all objectives together."""
    return [*filter(None, [constant_sentence(summary)]), *_family_sentences(summary)]


def _family_sentences(summary: Summary) -> list[str]:
    comparison = summary.comparison
    families = {result.family: result for result in comparison.families}
    if len(families) == 1:
        (only,) = families
        return [f"The space holds one family only ({family_name(only)}), so there is nothing to compare."]
    plain = families.pop("mlp", None)
    if plain is None:
        sentence = "The space holds no plain networks, so nothing here says whether KANs are worth their trouble"
        return [f"{sentence}; add `mlp` to space.family."]
    fair = comparison.fair_epochs
    when = f"within the equal budget ({count(fair, 'epoch')})" if fair else "yet"
    if plain.best is None:
        return [f"No plain network was trained to its end {when}, so there is no baseline."]
    name = summary.objectives[0].name
    value = format_value(name, plain.best.values[name])
    budget = f"With {count(fair, 'epoch')} for each family the" if fair else "The"
    sentences = [f"{budget} best plain network (trial {plain.best.trial}) reaches {short_label(name)} {value}."]
    sentences += [_clause(result, summary, when) for result in families.values()]
    volumes = [
        f"{result.hypervolume:.3f} for {family_name(result.family)}s"
        for result in comparison.families
        if result.hypervolume is not None
    ]
    if len(summary.objectives) > 1 and len(volumes) > 1:
        sentences.append(f"Over all objectives together the hypervolume is {_and(volumes)}.")
    return sentences


def _clause(result: FamilyResult, summary: Summary, when: str) -> str:
    """A family held against the baseline."""
    objective, family = summary.objectives[0], family_name(result.family)
    against = result.against
    if result.best is None or against is None:
        return f"No {family} was trained to its end {when}."
    value = format_value(objective.name, result.best.values[objective.name])
    size = _times(against.parameter_ratio)
    sentence = f"The best {family} (trial {result.best.trial}, {value}) is {_how(against, objective.name)}"
    sentence += f", with {size}." if size else "."
    match = against.smallest_match
    if match is None:
        return f"{sentence} No {family} is as good as that plain network."
    if match.trial == result.best.trial or against.match_ratio is None:
        return sentence
    return (
        f"{sentence} The smallest {family} that is as good as the plain network (trial {match.trial}) has "
        f"{_times(against.match_ratio)}."
    )


def _how(against: Against, name: str) -> str:
    """How much better or worse."""
    if against.equal:
        return "as good: no difference larger than " + ("one validation example" if name == "accuracy" else "1%")
    word = "better" if against.gain > 0 else "worse"
    if METRICS[name].is_share:
        by = f"{abs(against.gain) * 100:.1f} points"
        return f"{word} by {by}" + (
            f" (about {count(abs(against.examples), 'validation example')})" if against.examples else ""
        )
    if against.relative_gain is None:
        return f"{word} by {abs(against.gain):.3g}"
    if against.relative_gain <= -1:
        error = "unexplained variance" if name == "r2" else short_label(name)
        return f"worse: {_factor(1 - against.relative_gain)} times the {error}"
    return f"{word} by {percent(abs(against.relative_gain))}" + (" of the unexplained variance" if name == "r2" else "")


def _times(ratio: float | None) -> str:
    """A ratio of parameters in words."""
    if ratio is None:
        return ""
    if 0.95 < ratio < 1.05:
        return "about as many parameters"
    return f"{_factor(ratio)} times fewer parameters" if ratio > 1 else f"{_factor(1 / ratio)} times as many parameters"


def _factor(times: float) -> str:
    return f"{times:.1f}" if times < 10 else f"{times:,.0f}"


def column_rows(columns: Sequence[Column], limit: int) -> tuple[list[str], list[list[str]], str]:
    """The columns of a table for people: a header, at most so many rows, and a sentence to stand below."""
    rows = [
        [_one_line(column.name), column.kind, f"{column.gaps:,}", f"{column.distinct:,}", _one_line(column.done)]
        for column in columns[:limit]
    ]
    hidden = count(len(columns) - limit, "more column is", "more columns are") if len(columns) > limit else ""
    ways = "Where one was read wrong: data.categories, data.numbers, data.dates and data.ignore say what it is."
    header = ["column", "kind", "gaps", "distinct", "what was done"]
    return header, rows, f"{hidden} in report.json. {ways}" if hidden else ways


def _one_line(text: str) -> str:
    """A text of somebody else's in one line: what no terminal can show is escaped."""
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def footnotes(summary: Summary) -> list[str]:
    """What each number of the report means."""
    names = list(dict.fromkeys([*summary.study.objectives, *(c.metric for c in summary.study.constraints)]))
    notes = [
        _NOTES[name] for name in (*names, *(["parameters"] if "parameters" not in names else [])) if name in METRICS
    ]
    if summary.constant is not None:
        notes.append(
            "A constant answer is the best one that is the same for every row, as the training rows have it: their "
            "most frequent class (for probabilities the shares of their classes), or the mean of their targets (for "
            "MAE the median). Whoever does not pass it has learned nothing."
        )
    notes.append(
        "A trial is on the front when it was trained to its end, meets every constraint, and no other such trial is "
        "at least as good in every objective and better in one."
    )
    if len(summary.objectives) > 1:
        logs = [short_label(o.name) for o in summary.objectives if o.logarithmic]
        exact = (
            "" if len(summary.objectives) == 2 else " It is measured on 32,768 evenly spread points, right to 0.001."
        )
        notes.append(
            "Hypervolume is the share of the box between the best value of each objective and a reference a tenth of "
            "the range beyond its worst (over complete trials that meet every constraint; "
            f"{f'logarithms of {_and(logs)}' if logs else 'plain axes'}) that the front dominates: 0 is nothing, 1 "
            "would be one trial that is best in everything. The box belongs to this study, so hypervolumes of "
            f"different studies cannot be compared.{exact}"
        )
    notes.append(
        "Equal budget: trials of each family are taken in order of their numbers as long as their epochs together fit "
        "in what the family with the fewest epochs got. Failed trials do not count."
    )
    notes.append(
        "The unpruned cost is what the same trials would have taken had every pruned one run to "
        f"{count(summary.study.budget.epochs, 'epoch')}; trials that diverged or stopped by themselves count as they "
        "are."
    )
    notes.append("An epoch is one pass over the training data; a rung is an epoch at which a trial is judged.")
    return notes


def divergence_sentence(records: Sequence[TrialRecord]) -> str:
    """How many trials diverged, and an example; empty where none did."""
    diverged = [record for record in records if record.end is End.DIVERGED]
    if not diverged:
        return ""
    return f"{count(len(diverged), 'trial')} diverged; trial {diverged[0].number}: {diverged[0].reason}"
