"""The paper's claims, setting by setting: a verdict, the number behind it and its interval.

Source: Liang, Zhong, Chen, Wu, "Wyner-Ziv Gradient Compression for Federated Learning" (arXiv
2111.08277). The runs behind a row are those of runs.csv that its setting's list of ids names.
"""

from collections.abc import Sequence
from itertools import chain

import pandas as pd

from wzfl.reporting import markdown
from wzfl.reporting.compressor_styles import in_order, label
from wzfl.reporting.intervals import (
    BASELINE,
    Difference,
    discoveries,
    mean_interval,
    paired_difference,
)
from wzfl.reporting.summary import Sweep, informed

_PAPERS = "wyner_ziv"  # the paper's scheme
_STANDINGS = ("ahead", "behind", "undecided")
# What is compared, in which unit, and which sign is better.
_MEASURES = {
    "accuracy": ("final_accuracy", "final test accuracy", "points", 100.0, 1),
    "loss": ("final_train_loss", "final training loss", "10⁻⁴", 1e4, -1),
}


# A setting's differences by code, rival and bitrate, each with one of `_STANDINGS`.
_Compared = dict[tuple[str, str, float], tuple[Difference, str]]


def claims_section(sweeps: Sequence[Sweep]) -> str:
    """Markdown; empty where no setting has runs with side information."""
    judged = [sweep for sweep in sweeps if sweep.shows in _MEASURES and _codes(sweep.runs)]
    if not judged:
        return ""
    compared = _compared(judged)
    histories = [[_history(sweep, code) for code in _codes(sweep.runs)] for sweep in judged]
    history = markdown.table(_by_rising_bitrate(list(chain(*histories))))
    rates = "\n".join(_rates(*each) for each in zip(judged, compared, strict=True))
    settings = zip(judged, histories, compared, strict=True)
    short = pd.DataFrame([_in_short(*setting) for setting in settings])
    return (
        f"## The paper's claims\n\n{_SHORT}\n{markdown.table(short)}\n\n"
        f"{_HISTORY}\n{history}\n\n{_RATES}\n{rates}"
    )


def _codes(runs: pd.DataFrame) -> list[str]:
    """The compressors with side information, the paper's first."""
    return sorted(in_order(informed(runs)), key=lambda name: name != _PAPERS)


_SHORT = """\
The two claims in short, the evidence is below: at which bitrates history helps, and in how many comparisons \
with an earlier scheme at equal bits a code with side information is ahead, behind, or neither. The figure \
shows all runs of a setting.
"""
_HISTORY = """\
### History helps, since gradients of adjacent rounds are correlated

History's error, |history − gradient|² / |gradient|²: history helps where its interval is below 1, and \
harms where it is above. Plain history, of `last` and `measured`, is what was decoded last, with that code's \
error in it: coarser codes have worse histories. Of one as long as the gradient this asks for a cosine above \
1/2: where history harms the two may still be correlated. What `linear` expects is history weighed by how \
well it did.
"""
_RATES = """\
### Wyner-Ziv coding beats earlier schemes at equal bits

Differences between `wyner_ziv`, which is the paper's, or another code with side information and each \
compressor without, at the same configured bitrate, of runs of the same seed: their mean, and Student's \
95 % interval, **bold** where it leaves 0 out. A code is called ahead or behind where a difference is sure \
among all of this report: of those so called, one in twenty is expected to be chance (Benjamini & Hochberg \
1995). An asterisk marks compressors that keep a vector at every client.
"""


def _compared(sweeps: Sequence[Sweep]) -> list[_Compared]:
    """What each setting's codes are compared with, and how sure that is among all of them."""
    found = []
    for place, sweep in enumerate(sweeps):
        column, _, _, factor, better = _MEASURES[sweep.shows]
        for code in _codes(sweep.runs):
            for rival, difference in differences(code, sweep.runs, column, factor).items():
                found.append((place, (code, *rival), difference, better))
    compared: list[_Compared] = [{} for _ in sweeps]
    sure = discoveries([difference for _, _, difference, _ in found])
    for (place, key, difference, better), is_sure in zip(found, sure, strict=True):
        ahead = "ahead" if difference.mean * better > 0 else "behind"
        compared[place][key] = (difference, ahead if is_sure else "undecided")
    return compared


def _in_short(
    sweep: Sweep, histories: Sequence[dict[str, str]], compared: _Compared
) -> dict[str, str]:
    """A row: both claims' verdicts in a setting, the first from the rows of `_history`."""
    helps, tallies = [], []
    for history in histories:
        code = history["code"]
        words = [word for (each, _, _), (_, word) in compared.items() if each == code]
        counts = " / ".join(str(words.count(word)) for word in _STANDINGS)
        tallies.append(f"`{code}`: {counts}")
        helps.append(f"`{code}`: {history['history']}")
    (dataset,) = sweep.runs.dataset.unique()
    figure = f"{sweep.shows}_vs_bits_{dataset}"
    return {
        "setting": sweep.title,
        "seeds": str(sweep.runs.seed.nunique()),
        "history": "<br>".join(helps),
        "ahead / behind / undecided": "<br>".join(tallies),
        "figure": f"[{figure}](figures/{figure}.png)",
    }


def _history(sweep: Sweep, code: str) -> dict[str, str]:
    """A row: how far off the server's history was, bitrate by bitrate."""
    own = sweep.runs[sweep.runs.compressor == code]
    errors, words = {}, {}
    for bitrate, each in own.dropna(subset="side_information_error").groupby("bitrate"):
        values = each.side_information_error.to_numpy()
        low, high = mean_interval(values)
        errors[f"{bitrate:g} bit"] = f"{values.mean():.3g} ({low:.3g} to {high:.3g})"
        words[float(str(bitrate))] = "helps" if high < 1 else "harms" if low > 1 else "undecided"
    return {
        "setting": sweep.title,
        "code": code,
        "side information": markdown.values(own.side_information),
        "history": _at_bitrates(words, ("helps", "harms", "undecided")) or "—",
    } | errors


def _by_rising_bitrate(rows: Sequence[dict[str, str]]) -> pd.DataFrame:
    """A frame of rows whose columns "... bit" are in order, whatever row had them first."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns.sort(key=lambda column: float(column[:-4]) if column.endswith(" bit") else -1)
    return pd.DataFrame(rows, columns=columns).fillna("—")


def _rates(sweep: Sweep, compared: _Compared) -> str:
    """A setting's verdicts and differences, code by code, with the ids of the runs behind them."""
    _, measure, unit, _, better = _MEASURES[sweep.shows]
    runs = sweep.runs
    ids = sorted(runs.id[runs.compressor != BASELINE])
    tables = "\n".join(_rates_of(code, runs, compared) for code in _codes(runs))
    return (
        f"#### {sweep.title}\n\nDifference in {measure}, {unit}, n = {runs.seed.nunique()} seeds;"
        f" {'more' if better > 0 else 'less'} is better.\n\n{tables}\n"
        f"<details><summary>ids of the {len(ids)} runs</summary>\n\n{' '.join(ids)}\n\n</details>\n"
    )


def _rates_of(code: str, runs: pd.DataFrame, compared: _Compared) -> str:
    memory = set(runs.compressor[runs.client_floats > 0])
    rows, verdicts = [], []
    for rival in in_order({name for each, name, _ in compared if each == code}):
        own = {rate: found for (*both, rate), found in compared.items() if both == [code, rival]}
        name = label(rival) + "*" * (rival in memory)
        cells = {f"{rate:g} bit": markdown.difference(found) for rate, (found, _) in own.items()}
        rows.append({f"`{code}` less": name} | cells)
        verdict = _verdict({rate: word for rate, (_, word) in own.items()})
        verdicts.append(f"- against {name} the claim {verdict}.")
    return f"{markdown.table(_by_rising_bitrate(rows))}\n\n" + "\n".join(verdicts) + "\n"


def differences(
    code: str, runs: pd.DataFrame, column: str, factor: float
) -> dict[tuple[str, float], Difference]:
    """A code less each rival, times `factor`, by rival and bitrate; runs are paired by seed.

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


def _verdict(words: dict[float, str]) -> str:
    """Whether the scheme is ahead of a rival, from one of `_STANDINGS` by bitrate."""
    ahead, behind = ("ahead" in words.values(), "behind" in words.values())
    if not ahead and not behind:
        return "is undecided at every bitrate"
    verdict = "holds" if not behind else "holds in part" if ahead else "fails"
    return f"{verdict} ({_at_bitrates(words, _STANDINGS)})"


def _at_bitrates(words: dict[float, str], order: Sequence[str]) -> str:
    """What is so at which bitrates, as "ahead at 0.5, 1 bit; behind at 4 bit"."""
    at = {word: [f"{bitrate:g}" for bitrate in words if words[bitrate] == word] for word in order}
    return "; ".join(f"{word} at {', '.join(found)} bit" for word, found in at.items() if found)
