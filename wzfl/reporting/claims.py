"""The paper's claims, setting by setting: a verdict, the number behind it and its interval.

Source: Liang, Zhong, Chen, Wu, "Wyner-Ziv Gradient Compression for Federated Learning" (arXiv
2111.08277). The runs behind a row are those of runs.csv that its setting's list of ids names.
"""

from collections.abc import Sequence

import pandas as pd

from wzfl.reporting import markdown
from wzfl.reporting.intervals import BASELINE, Difference, mean_interval, paired_difference
from wzfl.reporting.plots import in_order, label
from wzfl.reporting.summary import Sweep, informed

_PAPERS = "wyner_ziv"  # the paper's scheme
_STANDINGS = ("ahead", "behind", "undecided")
# What is compared, in which unit, and which sign is better.
_MEASURES = {
    "accuracy": ("final_accuracy", "final test accuracy", "points", 100.0, 1),
    "loss": ("final_train_loss", "final training loss", "10⁻⁴", 1e4, -1),
}


def claims_section(sweeps: Sequence[Sweep]) -> str:
    """Markdown; empty where no setting has runs with side information."""
    judged = [sweep for sweep in sweeps if sweep.shows in _MEASURES and _codes(sweep.runs)]
    if not judged:
        return ""
    history = markdown.table(pd.DataFrame([_history(sweep) for sweep in judged]))
    rates = "\n".join(_rates(sweep) for sweep in judged)
    short = markdown.table(pd.DataFrame([_in_short(sweep) for sweep in judged]))
    return (
        f"## The paper's claims\n\n{_SHORT}\n{short}\n\n{_HISTORY}\n{history}\n\n{_RATES}\n{rates}"
    )


def _codes(runs: pd.DataFrame) -> list[str]:
    """The compressors with side information, the paper's first."""
    return sorted(in_order(informed(runs)), key=lambda name: name != _PAPERS)


_SHORT = """\
The two claims in short, the evidence is below: whether history helps, and in how many comparisons with an \
earlier scheme at equal bits a code with side information is ahead, behind, or neither, as the \
interval of the difference has 0 in it. The figure shows all runs of a setting.
"""
_HISTORY = """\
### History helps, since gradients of adjacent rounds are correlated

History's error, |history − gradient|² / |gradient|², at the highest bitrate of `wyner_ziv` or, where that \
did not run, another code. The claim holds where its interval is below 1, and fails where it is above. Plain \
history, of `last` and `measured`, is what was decoded last, with that code's error in it. Of one as long as \
the gradient this asks for a cosine above 1/2: where it fails the two may still be correlated. What `linear` \
expects is history weighed by how well it did.
"""
_RATES = """\
### Wyner-Ziv coding beats earlier schemes at equal bits

Differences between `wyner_ziv`, which is the paper's, or another code with side information and each \
compressor without, at the same configured bitrate, of runs of the same seed: their mean, and Student's \
95 % interval. **Bold** where the interval leaves 0 out; with this many comparisons one in twenty does so \
by chance. An asterisk marks compressors that keep a vector at every client.
"""


def _in_short(sweep: Sweep) -> dict[str, str]:
    """A row: both claims' verdicts in a setting."""
    column, _, _, factor, better = _MEASURES[sweep.shows]
    tallies = []
    for code in _codes(sweep.runs):
        found = differences(code, sweep.runs, column, factor).values()
        words = [_standing(difference, better) for difference in found]
        counts = " / ".join(str(words.count(word)) for word in _STANDINGS)
        tallies.append(f"`{code}`: {counts}")
    (dataset,) = sweep.runs.dataset.unique()
    figure = f"{sweep.shows}_vs_bits_{dataset}"
    return {
        "setting": sweep.title,
        "seeds": str(sweep.runs.seed.nunique()),
        "history helps": _history(sweep)["verdict"],
        "ahead / behind / undecided": "; ".join(tallies),
        "figure": f"[{figure}](figures/{figure}.png)",
    }


def _history(sweep: Sweep) -> dict[str, str]:
    """A row: how far off the server's history was."""
    code = _codes(sweep.runs)[0]
    own = sweep.runs[sweep.runs.compressor == code]
    own = own[own.bitrate == own.bitrate.max()].dropna(subset="side_information_error")
    errors = own.side_information_error.to_numpy()
    row = {
        "setting": sweep.title,
        "verdict": "undecided",
        "history's error": "—",
        "code": code,
        "side information": markdown.values(own.side_information),
        "bitrate": markdown.values(own.bitrate),
        "seeds": str(len(errors)),
    }
    if len(errors):
        low, high = mean_interval(errors)
        row["history's error"] = f"{errors.mean():.3g} ({low:.3g} to {high:.3g})"
        row["verdict"] = "holds" if high < 1 else "fails" if low > 1 else "undecided"
    return row


def _rates(sweep: Sweep) -> str:
    """A setting's verdicts and differences, code by code, with the ids of the runs behind them."""
    _, measure, unit, _, better = _MEASURES[sweep.shows]
    runs = sweep.runs
    ids = sorted(runs.id[runs.compressor != BASELINE])
    tables = "\n".join(_rates_of(code, runs, sweep.shows) for code in _codes(runs))
    return (
        f"#### {sweep.title}\n\nDifference in {measure}, {unit}, n = {runs.seed.nunique()} seeds;"
        f" {'more' if better > 0 else 'less'} is better.\n\n{tables}\n"
        f"<details><summary>ids of the {len(ids)} runs</summary>\n\n{' '.join(ids)}\n\n</details>\n"
    )


def _rates_of(code: str, runs: pd.DataFrame, shows: str) -> str:
    column, _, _, factor, better = _MEASURES[shows]
    found = differences(code, runs, column, factor)
    memory = set(runs.compressor[runs.client_floats > 0])
    rows, verdicts = [], []
    for rival in in_order({name for name, _ in found}):
        own = {bitrate: found[rival, bitrate] for name, bitrate in found if name == rival}
        name = label(rival) + "*" * (rival in memory)
        cells = {f"{bitrate:g} bit": markdown.difference(each) for bitrate, each in own.items()}
        rows.append({f"`{code}` less": name} | cells)
        verdicts.append(f"- against {name} the claim {_verdict(own, better)}.")
    return f"{markdown.table(pd.DataFrame(rows).fillna('—'))}\n\n" + "\n".join(verdicts) + "\n"


def differences(
    code: str, runs: pd.DataFrame, column: str, factor: float
) -> dict[tuple[str, float], Difference]:
    """By rival and bitrate: a code less that rival, `factor` times, runs paired by seed.

    Rivals are the compressors without side information; float32 is none, it has no bitrate to share.
    """
    found, rivals = {}, set(runs.compressor) - informed(runs) - {BASELINE}
    for bitrate, own in runs.groupby("bitrate"):
        by_seed = factor * own.pivot_table(column, "seed", "compressor", dropna=False)
        if code not in by_seed:
            continue
        for rival in by_seed.columns.intersection(sorted(rivals)):
            difference = paired_difference(by_seed[code], by_seed[rival])
            if difference.seeds:
                found[str(rival), float(str(bitrate))] = difference
    return found


def _standing(difference: Difference, better: int) -> str:
    """One of `_STANDINGS`."""
    if not difference.sure:
        return "undecided"
    return "ahead" if difference.mean * better > 0 else "behind"


def _verdict(by_bitrate: dict[float, Difference], better: int) -> str:
    """Whether the scheme is ahead of a rival, and at which bitrates it is, is behind, or neither."""
    found: dict[str, list[str]] = {word: [] for word in _STANDINGS}
    for bitrate, difference in by_bitrate.items():
        found[_standing(difference, better)].append(f"{bitrate:g}")
    if not found["ahead"] and not found["behind"]:
        return "is undecided at every bitrate"
    verdict = "holds" if not found["behind"] else "holds in part" if found["ahead"] else "fails"
    at = [f"{word} at {', '.join(bitrates)} bit" for word, bitrates in found.items() if bitrates]
    return f"{verdict} ({'; '.join(at)})"
