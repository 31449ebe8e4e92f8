"""results/report.md: text made from frames, every number of it measured."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from wzfl.reporting import markdown
from wzfl.reporting.claims import claims_section
from wzfl.reporting.compressor_styles import label
from wzfl.reporting.condition_report import condition_section
from wzfl.reporting.conditions import heading
from wzfl.reporting.downlink_report import downlink_section
from wzfl.reporting.error_report import error_section
from wzfl.reporting.intervals import BASELINE, COVERAGE, mean_interval
from wzfl.reporting.summary import Sweep, best_by_compressor, informed, target_accuracy
from wzfl.reporting.verdicts import bits_verdict, loss_verdicts


def report(
    sweeps: Sequence[Sweep],
    skipped: Mapping[str, str],
    figures: Sequence[str],
    command: str,
) -> str:
    """The whole report; `skipped` has why an experiment did not run, or not to its end, `command` made it."""
    kinds = {sweep.shows for sweep in sweeps}
    kind = "error" if "error" in kinds else "conditions" if "conditions" in kinds else "accuracy"
    title, introduction = _HEADS[kind]
    runs = pd.concat([sweep.runs for sweep in sweeps])
    parts = [
        f"# {title}\n",
        markdown.generated_by(command),
        introduction + (_how_fine(sweeps) if kind == "accuracy" else ""),
        what_was_run(runs, skipped),
    ]
    parts += [_sanity(sweeps), claims_section(sweeps)]
    for sweep in sweeps:
        if sweep.shows != "reference":
            parts.append(_section(sweep))
    if kind == "accuracy":
        parts.append(_NOT_REPRODUCED)
        parts.append(downlink_section([sweep for sweep in sweeps if sweep.shows != "reference"]))
    return "\n".join(part for part in [*parts, figures_section(figures)] if part)


def tables_report(
    title: str,
    introduction: str,
    tables: Mapping[str, str],
    runs: pd.DataFrame,
    skipped: Mapping[str, str],
    command: str,
) -> str:
    """A report that is a table per setting, by the setting's title."""
    sections = [f"## {setting}\n\n{table}\n" for setting, table in tables.items()]
    head = [f"# {title}\n", markdown.generated_by(command), introduction]
    return "\n".join([*head, what_was_run(runs, skipped), *sections])


def figures_section(names: Sequence[str]) -> str:
    """The figures of figures/ by their names."""
    return "## Figures\n\n" + "\n\n".join(f"![{n}](figures/{n}.png)" for n in names) + "\n"


def headline(sweep: Sweep) -> str:
    """A table of each compressor at its best bitrate, as Markdown; within a point of float32's accuracy."""
    target = target_accuracy(sweep.runs)
    best = best_by_compressor(sweep.methods)
    seeds = int(sweep.methods.seeds.max())
    table = pd.DataFrame(
        {
            "compressor": best.compressor.map(label),
            "best bitrate": [
                markdown.number(bitrate) + " (lowest tried)" * is_lowest
                for bitrate, is_lowest in zip(best.best_bitrate, best.is_lowest, strict=True)
            ],
            f"uplink per client to {100 * target:.1f} %": _to_target(best),
            "× less than float32": best.ratio.map(_times),
            "final accuracy": best.accuracy.map(lambda share: markdown.number(share, ".3f")),
            "within 1 point from": best.lowest_bitrate_within_one_point.map(
                lambda bitrate: markdown.number(bitrate, ".3g")
            ),
            "client memory": best.client_floats.map(markdown.floats),
        }
    )
    return f"{sweep.title}; means over {seeds} seeds:\n\n{markdown.table(table)}\n"


_INTRODUCTION = f"""\
Bits are 8 times the bytes of the payloads, frames \
included, and only the uplink is counted unless said. A run's final accuracy is the mean of the last \
quarter of its evaluations, and it has reached a target where a quarter of them in a row do on average. All \
compressors of a setting share seeds, partition, batches and initial weights. Intervals, in brackets, are \
{COVERAGE}. The target of a setting is float32's mean final accuracy less one point, or its worst \
seed's if that is lower. History's error is |side \
information − update|² / |update|², mean over clients and the last ten rounds: below 1 history helps, \
above 1 coding without it would do better.
"""
_HOW_FINE = """
Accuracy is measured every {} rounds of a setting. Bits to a target are those until it was measured there, \
in each run a multiple of what as many rounds send: smaller differences are not seen. The best bitrate of a \
compressor is chosen on the seeds that are reported.
"""
_ERRORS = """\
An error is |estimate − update|² / |update|², the mean over \
clients and the last ten rounds, in dB; means over seeds, ± their standard error. Differences are of \
runs of the same seed. All compressors of a setting share seeds, partition, batches and initial weights, \
but each goes its own way: errors change the weights. History's error is that of the side information \
alone; 0 dB where there is none. A payload has failed if the server noticed that it could not read all \
of it. Bits are those of the uplink, 8 times the bytes of the payloads, frames included; what the server \
broadcasts beside its weights is in `downlink_bits` of runs.csv.
"""
_CONDITIONS = f"""\
What becomes of final accuracy, the mean of the last quarter of a run's evaluations, where one condition \
changes and all else stays. Bits are measured ones per \
coordinate, 8 times the bytes of the payloads, frames included. All compressors of a setting share seeds, \
partition, batches and initial weights, and who takes part and is lost when. Intervals, in brackets, are \
{COVERAGE}. \
History's error is |side information − update|² / |update|², mean over clients and the last \
ten rounds: below 1 history helps.
"""
_NOT_REPRODUCED = """\
## What was not reproduced

- The paper's curves, point by point: its models, step sizes and numbers of clients are not published. What \
is judged above is what it claims, in settings of our own (conf/experiment/).
- Its quantizers word by word: `wyner_ziv` is its modulo quantizer with subtractive dither and a scale that \
the server learns; `wyner_ziv_rmq` and `wyner_ziv_mq` are as published. The README tells all that differs \
("What differs from the paper").
"""
_HEADS = {
    "accuracy": ("Accuracy against bits", _INTRODUCTION),
    "conditions": ("Accuracy under other conditions", _CONDITIONS),
    "error": ("Errors against bits", _ERRORS),
}


def what_was_run(runs: pd.DataFrame, skipped: Mapping[str, str]) -> str:
    """Two sections: when, where and by which code; and what was left out, if anything was."""
    commits = sorted({str(commit) for commit in runs.git_commit})
    minutes = runs.wall_seconds.sum(min_count=len(runs)) / 60
    time = "" if minutes != minutes else f", {minutes:.0f} minutes of training in all"
    lines = [
        f"- {len(runs)} runs{time}",
        f"- hardware: {markdown.values(runs.processor)}; device {markdown.values(runs.device)};"
        f" {markdown.values(runs.threads)} thread(s) per run",
        f"- torch {markdown.values(runs.torch)}; commit {', '.join(commits)}",
    ]
    text = "## What was run\n\n" + "\n".join(lines) + "\n"
    if skipped:
        left_out = [f"- `{name}`: {reason}" for name, reason in skipped.items()]
        text += "\n## Not run, or not to the end\n\n" + "\n".join(left_out) + "\n"
    return text


def _how_fine(sweeps: Sequence[Sweep]) -> str:
    """What bits to a target can tell apart, by evaluations; and on which seeds the best is chosen."""
    apart = sorted({_between_evaluations(s.rounds) for s in sweeps if s.shows != "reference"})
    every = [str(rounds) for rounds in apart]
    listed = " or ".join(part for part in (", ".join(every[:-1]), *every[-1:]) if part)
    return _HOW_FINE.format(listed) if apart else ""


def _between_evaluations(rounds: pd.DataFrame) -> int:
    """Rounds from one to the next; the last of a run may come sooner."""
    evaluated = rounds.dropna(subset="test_accuracy")["round"].unique()
    return int(np.diff(np.sort(evaluated), prepend=0).max())


def _sanity(sweeps: Sequence[Sweep]) -> str:
    """Float32 in every setting; where a condition is varied, the setting's own table has it."""
    rows = []
    for sweep in sweeps:
        if sweep.shows == "conditions":
            continue
        baseline = sweep.runs[sweep.runs.compressor == BASELINE]
        for partition, runs in baseline.groupby("partition"):
            low, high = mean_interval(runs.final_accuracy.to_numpy())
            rows.append(
                {
                    "setting": sweep.title,
                    "partition": partition,
                    "clients": f"{runs.clients_per_round.max()} of {runs.clients.max()}",
                    "rounds": int(runs.rounds.max()),
                    "seeds": len(runs),
                    "final test accuracy": f"{runs.final_accuracy.mean():.4f}",
                    "interval": f"{low:.4f} to {high:.4f}",
                    "uplink per client": markdown.size(
                        float((runs.uplink_bits / runs.clients).mean())
                    ),
                }
            )
    if not rows:
        return ""
    return f"## Float32 without compression\n\n{markdown.table(pd.DataFrame(rows))}\n"


def _section(sweep: Sweep) -> str:
    if sweep.shows == "error":
        return f"## {sweep.title}\n\n{error_section(sweep.runs)}"
    if sweep.shows == "conditions":
        return f"## {heading(sweep.title, sweep.varies)}\n\n{condition_section(sweep.runs, sweep.varies)}"
    text = [f"## {sweep.title}\n"]
    if sweep.shows == "accuracy":
        text += [
            "### Each compressor at its best bitrate\n",
            headline(sweep),
            bits_verdict(sweep),
        ]
    if sweep.shows == "loss":
        text.append(_loss_verdict(sweep))
    text += ["### All methods\n", _all_methods(sweep)]
    return "\n".join(text)


def _all_methods(sweep: Sweep) -> str:
    methods = sweep.methods
    table = pd.DataFrame(
        {
            "compressor": methods.compressor.map(label),
            "bitrate": methods.bitrate.map(markdown.number),
            "measured": methods.measured_bitrate.map(lambda bitrate: f"{bitrate:.4g}"),
            "lr": methods.lr.map(markdown.number),
            "final accuracy": _ranged(methods, "accuracy", ".4f"),
            "final training loss": _ranged(methods, "train_loss", ".4f"),
            "total uplink per client": methods.uplink_per_client.map(markdown.size),
            "uplink to target": _to_target(methods),
            "× less than float32": methods.ratio.map(_times),
            "history's error": methods.side_information_error.map(
                lambda error: markdown.number(error, ".3g")
            ),
            "client memory": methods.client_floats.map(markdown.floats),
        }
    )
    return f"Target accuracy {target_accuracy(sweep.runs):.4f}.\n\n{markdown.table(table)}\n"


def _loss_verdict(sweep: Sweep) -> str:
    """Final losses by compressor and bitrate, and how the best compare."""
    methods = sweep.methods
    swept = methods[methods.compressor != BASELINE]
    losses = swept.pivot_table("train_loss", "bitrate", "compressor", dropna=False)
    float32 = _loss(float(methods.train_loss[methods.compressor == BASELINE].iloc[0]))
    excess = swept.pivot_table("excess_loss", "bitrate", "compressor", dropna=False)
    above = excess.map(lambda loss: markdown.number(1e4 * loss, ".3g"))
    stars = {name: f"{name}*" for name in swept.compressor[swept.client_floats > 0]}
    tables = []
    for each in (losses.map(_loss), above):
        named = each.rename(columns=stars).reset_index()
        tables.append(markdown.table(named.assign(bitrate=named.bitrate.map(markdown.number))))
    return (
        f"Final training loss at equal configured bitrates, means over seeds (float32: {float32};"
        " an asterisk marks compressors that keep a vector at every client).\n\n"
        f"{tables[0]}\n\nThe same above float32's of the same seed, times 10⁴:\n\n"
        f"{tables[1]}\n\n{loss_verdicts(swept, informed(sweep.runs))}\n"
    )


def _ranged(methods: pd.DataFrame, column: str, digits: str) -> list[str]:
    """mean (low to high), or what became of the runs."""
    cells = []
    for _, row in methods.iterrows():
        if row.diverged:
            cells.append(f"{int(row.diverged)} of {int(row.seeds)} diverged")
        else:
            values = [
                format(row[name], digits) for name in (column, f"{column}_low", f"{column}_high")
            ]
            cells.append("{} ({} to {})".format(*values))
    return cells


def _to_target(methods: pd.DataFrame) -> list[str]:
    """Bits to the target, or how many seeds reached it."""
    some = methods.reached.between(1, methods.seeds - 1)
    sizes = methods.bits_to_target.map(markdown.size)
    partly = methods.reached.astype(str) + " of " + methods.seeds.astype(str) + " seeds"
    return list(sizes.where(~some, partly))


def _times(ratio: float) -> str:
    """Three digits, or all before the point."""
    return markdown.number(ratio, ".0f" if ratio >= 100 else ".3g")


def _loss(value: float) -> str:
    return "—" if value != value else f"{value:.5f}"
