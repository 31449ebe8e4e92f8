"""Tables, figures and report from a small sweep made by hand."""

import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import draw
import finished
import numpy as np
import pandas as pd
import pytest
import yaml
from presets import Preset, experiments_of

import wzfl
from wzfl.config import compressor_names
from wzfl.errors import InputError
from wzfl.partial_run import COLUMNS, PartialRun
from wzfl.rate_distortion import measure, merge_row
from wzfl.reporting.bits_plots import against_bits, by_bitrate
from wzfl.reporting.claims import differences
from wzfl.reporting.compressor_styles import look
from wzfl.reporting.condition_plots import accuracy_by_condition
from wzfl.reporting.condition_report import condition_section
from wzfl.reporting.conditions import CONDITIONS
from wzfl.reporting.downlink_report import downlink_section
from wzfl.reporting.error_report import error_section
from wzfl.reporting.figures import save
from wzfl.reporting.report import report
from wzfl.reporting.summary import (
    METHOD,
    Sweep,
    best_by_compressor,
    bits_to_target,
    decibel,
    load_sweep,
    methods,
    save_tables,
    sustained,
    target_accuracy,
)
from wzfl.reporting.verdicts import bits_verdict
from wzfl.results import RunFolder, SweepFolder
from wzfl.sources import Gaussian

CLIENTS, DIM, ROUNDS = 4, 100, 3
# compressor, bitrate, final accuracies of two seeds; the accuracy of round r is final * r / 3
RUNS = [
    ("none", 32.0, (0.90, 0.92)),
    ("qsgd", 1.0, (0.80, 0.95)),
    ("qsgd", 4.0, (0.91, 0.91)),
    ("topk", 0.5, (0.91, 0.93)),
    ("topk", 1.0, (0.96, 0.96)),
    ("wyner_ziv", 1.0, (0.93, None)),  # the second seed diverges
    ("my_own", 2.0, (0.5, 0.6)),
    ("my_own", 4.0, (0.5, 0.6)),
]


ENVIRONMENT = {
    "git_commit": "abc",
    "processor": "some",
    "device": "cpu",
    "torch_threads": 1,
    "packages": {"torch": "2"},
}


def write_run(
    root,
    sweep,
    job,
    compressor,
    bitrate,
    seed,
    accuracy,
    side=None,
    loss=0.0,
    lr=0.5,
    train_loss=None,
    sampled=CLIENTS,
    rounds=({},) * ROUNDS,
):
    """A finished run; its id. `rounds` are what is otherwise in each of them."""
    id = f"{compressor}-{bitrate:g}-{seed}" + f"-{loss}" * (loss > 0)
    folder = RunFolder(root / "runs", id)
    folder.root.mkdir(parents=True, exist_ok=True)
    side = side or ("last" if compressor == "wyner_ziv" else "zero")
    names = {"compressor": compressor, "dataset": "digits", "partition": "iid"}
    names["side_information"] = side
    config = {
        "seed": seed,
        "names": names,
        "clients_per_round": sampled,
        "client": {"batch_size": 8},
        "server": {"optimizer": {"lr": lr}},
        "channel": {"loss": loss},
    }
    state = SimpleNamespace(round=0)
    partial = PartialRun(folder, ENVIRONMENT)
    partial.begin(config, state)
    if accuracy is None:
        rounds = rounds[:1]
    records = (
        dict.fromkeys(COLUMNS, 0.0)
        | {
            "round": r,
            "uplink_bits": int(sampled * bitrate * DIM),
            "train_loss": train_loss or 1 / r,
            "nmse": 0.01 * bitrate * (1 + seed) ** 2,
            "decode_failures": 1,
            "test_accuracy": 0.1 if accuracy is None else accuracy * r / ROUNDS,
            "clients": [],
        }
        | other
        for r, other in enumerate(rounds, start=1)
    )
    list(partial.record(records, state))
    summary = {
        "diverged_in_round": 2 if accuracy is None else None,
        "dim": DIM,
        "population": CLIENTS,
        "bitrate": bitrate,
        "client_floats": DIM if compressor == "topk" else 0,
        "wall_seconds": 1.0,
    }
    partial.finish({"summary": summary})
    SweepFolder(root / "sweeps" / sweep).mark(job, id)
    return id


@pytest.fixture
def results(tmp_path):
    job = 0
    for compressor, bitrate, accuracies in RUNS:
        for seed, accuracy in enumerate(accuracies):
            write_run(tmp_path, "smoke", job, compressor, bitrate, seed, accuracy)
            job += 1
    return tmp_path


def preset_of(results, *experiments):
    return Preset("make reproduce", list(experiments), results)


@pytest.fixture
def sweep(results):
    runs, rounds = load_sweep(results, "smoke")
    return Sweep("smoke", "a setting", runs, rounds, methods(runs, rounds), "accuracy")


def test_runs_are_read_back(sweep):
    assert len(sweep.runs) == 16
    one = sweep.runs[sweep.runs.id == "qsgd-4-1"].iloc[0]
    assert one.uplink_bits == ROUNDS * CLIENTS * 4 * DIM
    assert one.measured_bitrate == 4
    assert one.final_accuracy == 0.91
    cumulative = sweep.rounds[sweep.rounds.id == "qsgd-4-1"].uplink_per_client
    assert cumulative.tolist() == [400, 800, 1200]


def test_bits_are_per_coordinate_of_who_takes_part_and_per_client_of_all(results):
    """Two of four clients in a round."""
    for job, (name, bitrate) in enumerate([("none", 32), ("qsgd", 4)]):
        write_run(results, "some", job, name, bitrate, 7, 0.9, sampled=2)
    runs, rounds = load_sweep(results, "some")
    assert runs.measured_bitrate.tolist() == [32, 4]
    assert runs.failures.tolist() == [0.5, 0.5]
    table = methods(runs, rounds).set_index("compressor")
    assert table.uplink_per_client.to_dict() == {"none": 3 * 1600, "qsgd": 3 * 200}
    assert table.bits_to_target["qsgd"] == 3 * 200
    assert rounds.uplink_per_client[rounds.compressor == "qsgd"].tolist() == [200, 400, 600]


def test_a_run_s_errors_are_those_of_its_last_ten_rounds(results):
    first, last = [(0.9, 2.0)] * 5, [(0.1, 0.5)] * 5 + [(0.3, 0.7)] * 5
    rounds = [{"nmse": error, "side_information_error": side} for error, side in first + last]
    write_run(results, "long", 0, "wyner_ziv", 2, 7, 0.9, rounds=rounds)
    (one,) = load_sweep(results, "long")[0].itertuples()
    assert one.error == pytest.approx(0.2)
    assert one.side_information_error == pytest.approx(0.6)


def test_an_oracle_s_scales_are_marked_wherever_the_run_is_named(results):
    write_run(results, "bound", 0, "wyner_ziv", 2, 7, 0.9, side="oracle")
    runs, rounds = load_sweep(results, "bound")
    assert set(runs.compressor) == set(rounds.compressor) == {"wyner_ziv (oracle)"}
    assert look("wyner_ziv (oracle)") == look("wyner_ziv")


def test_the_target_is_float32_less_one_point(sweep):
    assert target_accuracy(sweep.runs) == pytest.approx(0.90)


def test_the_target_is_one_that_all_seeds_of_float32_reach(sweep):
    runs = sweep.runs.copy()
    runs.loc[(runs.compressor == "none") & (runs.seed == 1), "final_accuracy"] = 0.98
    table = methods(runs, sweep.rounds).set_index(["compressor", "bitrate"])
    assert target_accuracy(runs) == 0.90  # where the mean is 0.94
    assert not table.within_one_point["qsgd", 4]  # of which both seeds end at 0.91
    assert table.bits_to_target["qsgd", 4] == 3 * 400


def test_excess_losses_are_above_those_of_float32_with_the_same_seed(sweep):
    runs = sweep.runs.assign(final_train_loss=sweep.runs.seed.astype(float))
    runs.loc[runs.compressor == "topk", "final_train_loss"] += 0.25
    table = methods(runs, sweep.rounds).set_index(["compressor", "bitrate"])
    assert table.excess_loss["topk", 1] == pytest.approx(0.25)
    assert table.excess_loss["qsgd", 4] == 0
    assert table.train_loss["qsgd", 4] == 0.5


def test_bits_to_target(sweep):
    reached = bits_to_target(sweep.rounds, 0.90).set_index("id").bits_to_target
    assert reached["none-32-0"] == 3 * 3200
    assert pd.isna(reached["qsgd-1-0"])
    assert reached["topk-1-0"] == 300
    assert bits_to_target(sweep.rounds, 0.6).set_index("id").bits_to_target["topk-1-0"] == 200


def test_a_target_is_reached_where_accuracy_stays():
    """Of eight evaluations, a quarter: each with the next; one that is high alone is none."""
    accuracy = pd.Series([0.2, 0.9, 0.4, 0.8, 0.7, 0.9, 0.7, 0.6])
    expected = [0.55, 0.65, 0.6, 0.75, 0.8, 0.8, 0.65]
    assert sustained(accuracy).tolist()[:-1] == pytest.approx(expected)
    assert pd.isna(sustained(accuracy).iloc[-1])
    rounds = pd.DataFrame({"id": "a", "compressor": "qsgd", "bitrate": 1.0, "seed": 0}, range(16))
    evaluated = rounds.index % 2 == 1
    rounds["test_accuracy"] = np.nan
    rounds.loc[evaluated, "test_accuracy"] = accuracy.tolist()
    rounds["uplink_per_client"] = 10 * (rounds.index + 1)
    assert bits_to_target(rounds, 0.75).bits_to_target.tolist() == [80]
    assert bits_to_target(rounds, 0.85).bits_to_target.isna().all()


def test_final_accuracy_is_that_of_the_last_quarter_of_evaluations(results):
    accuracies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.7]
    rounds = [{"test_accuracy": accuracy} for accuracy in accuracies]
    write_run(results, "long", 0, "qsgd", 2, 7, 0.9, rounds=rounds)
    (one,) = load_sweep(results, "long")[0].itertuples()
    assert one.final_accuracy == pytest.approx(0.75)


def test_a_best_bitrate_that_is_the_lowest_tried_is_marked(sweep):
    best = best_by_compressor(sweep.methods).set_index("compressor")
    assert best.is_lowest.to_dict() == {name: name == "topk" for name in best.index}
    assert "| topk         | 0.5 (lowest tried) |" in report([sweep], {}, [], "")


def test_bitrates_are_within_a_point_only_if_higher_ones_are(sweep):
    own = sweep.methods.compressor == "topk"
    table = sweep.methods.assign(within_one_point=own & (sweep.methods.bitrate == 0.5))
    least = best_by_compressor(table).set_index("compressor").lowest_bitrate_within_one_point
    assert pd.isna(least["topk"])


def test_the_headline_can_be_computed_from_the_exported_rounds(results):
    """By the lines of the README."""
    sweep = {"name": "smoke", "title": "a setting", "dataset": "digits", "shows": "accuracy"}
    draw.draw(preset_of(results, sweep), {})
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (lines,) = re.findall(r"```python\n(import pandas.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(
        lines.replace("results/rounds", f"{results}/rounds").replace("mnist_by_class", "smoke"),
        names,
    )
    table = pd.read_csv(results / "methods.csv").set_index(["compressor", "bitrate"])
    expected = table.bits_to_target.dropna()
    assert len(expected) > 2
    pd.testing.assert_series_equal(
        names["bits"].dropna(), expected, check_names=False, check_exact=False
    )


def test_the_report_s_numbers_are_a_line_each(results, sweep):
    """By the lines of docs/data.md."""
    entry = {"name": "smoke", "title": "a setting", "dataset": "digits", "shows": "accuracy"}
    draw.draw(preset_of(results, entry), {})
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    read, lines = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(read.replace("results/", f"{results}/"), names)
    for table in ("runs", "methods"):
        names[table] = names["table"](f"{table}.csv").query("sweep == 'smoke'")
    best, within, lowest, _, condition, down, beside, accuracy, ahead = re.findall(
        r"^[^#].*$", lines, re.MULTILINE
    )
    expected = best_by_compressor(sweep.methods).set_index("compressor")
    found = 8e3 * eval(best, names)
    assert found.to_dict() == pytest.approx(expected.bits_to_target.to_dict(), nan_ok=True)
    exec(within, names)
    least = expected.lowest_bitrate_within_one_point.dropna().to_dict()
    assert eval(lowest, names).to_dict() == pytest.approx(least)
    assert eval(condition, names).loc["none"].tolist() == pytest.approx([0.91])
    exec(down, names)
    assert set(eval(beside, names)) == {0.0}
    exec(accuracy, names)
    (difference,) = (
        difference.mean
        for (rival, bitrate), difference in differences(
            "wyner_ziv", sweep.runs, "final_accuracy", 100
        ).items()
        if (rival, bitrate) == ("topk", 1)
    )
    assert eval(ahead, names)["topk"] == pytest.approx(difference)


def test_methods_are_means_over_seeds_and_strict_about_failures(sweep):
    table = sweep.methods.set_index(["compressor", "bitrate"])
    assert table.accuracy["none", 32] == pytest.approx(0.91)
    assert table.accuracy_low["none", 32] == 0.90
    assert pd.isna(table.bits_to_target["qsgd", 1])  # one seed of two does not get there
    assert pd.isna(table.accuracy["wyner_ziv", 1])
    assert pd.isna(table.train_loss["wyner_ziv", 1])
    assert table.diverged["wyner_ziv", 1] == 1
    assert table.ratio["topk", 0.5] == pytest.approx(64)
    assert table.reached["qsgd", 1] == 1
    assert table.within_one_point["qsgd", 4]
    assert not table.within_one_point["qsgd", 1]


def test_the_best_bitrate_is_that_of_fewest_bits(sweep):
    best = best_by_compressor(sweep.methods).set_index("compressor")
    assert best.best_bitrate["topk"] == 0.5
    assert best.lowest_bitrate_within_one_point["topk"] == 0.5
    assert best.lowest_bitrate_within_one_point["qsgd"] == 4
    assert pd.isna(best.bits_to_target["my_own"])


def test_the_report_names_everything(sweep):
    text = report([sweep], {"mnist_iid": "no data"}, ["some_figure"], "make it")
    for part in (
        "- `mnist_iid`: no data",
        "| float32      | 32 ",
        "1 of 2 diverged",
        "not reached",
        "1 of 2 seeds",
        "100 floats",
        "![some_figure](figures/some_figure.png)",
        "0.9100 (0.9000 to 0.9200)",
    ):
        assert part in text


def rows_of(text):
    """Cells of all tables' rows."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_every_column_shows_what_it_is_called(sweep):
    values = {"measured_bitrate": 4.125, "lr": 0.7, "uplink_per_client": 8e6, "ratio": 3.3}
    values |= {"train_loss": 0.31, "train_loss_low": 0.29, "train_loss_high": 0.33}
    values |= {"bits_to_target": 4e6, "side_information_error": 0.44}
    own = sweep.methods.compressor == "qsgd"
    table = sweep.methods.assign(client_floats=sweep.methods.client_floats.mask(own, 77))
    table.loc[own & (table.bitrate == 4), list(values)] = list(values.values())
    runs = sweep.runs.assign(clients_per_round=2, wall_seconds=90.0)
    text = report([replace(sweep, runs=runs, methods=table)], {}, [], "")
    rows = rows_of(text)
    assert "\n- 16 runs, 24 minutes of training in all\n" in text
    float32 = ["a setting", "iid", "2 of 4", "3", "2", "0.9100", "0.9000 to 0.9200", "1.2 kB"]
    assert float32 in rows
    assert ["qsgd", "4", "500 kB", "3.3", "0.910", "4.12", "77 floats"] in rows
    accuracy, loss = "0.9100 (0.9100 to 0.9100)", "0.3100 (0.2900 to 0.3300)"
    everything = ["qsgd", "4", "4.125", "0.7", accuracy, loss, "1 MB", "500 kB"]
    assert [*everything, "3.3", "0.44", "77 floats"] in rows


def test_the_report_tells_how_far_apart_evaluations_are(sweep):
    seldom = sweep.rounds.assign(round=5 * sweep.rounds["round"])
    seldom["round"] = seldom["round"].replace(15, 13)  # the last
    reference = replace(sweep, shows="reference", rounds=sweep.rounds[:0])
    text = report([sweep, replace(sweep, rounds=seldom), reference], {}, [], "")
    assert "Accuracy is measured every 1 or 5 rounds of a setting." in text
    assert "best bitrate of a compressor is chosen on the seeds that are reported" in text
    assert "every 1 rounds of" in report([sweep], {}, [], "")


def test_the_loss_verdict_names_the_best_of_each_kind(sweep):
    losses = {"wyner_ziv": 3e-4, "qsgd": 4e-4, "topk": 1e-4}
    table = sweep.methods.assign(excess_loss=sweep.methods.compressor.map(losses))
    text = report([replace(sweep, methods=table, shows="loss")], {}, [], "")
    assert (
        "- 1 bit(s): best with side information `wyner_ziv`, 3; best without client memory `qsgd`, 4;"
        " best with client memory `topk`, 1." in text
    )
    assert re.search(r"\| bitrate +\| my_own +\| qsgd +\| topk\* +\| wyner_ziv", text)


def test_the_bits_to_the_target_are_compared(sweep):
    table = sweep.methods
    table.loc[table.compressor == "wyner_ziv", "bits_to_target"] = 150.0
    table.loc[(table.compressor == "qsgd") & (table.bitrate == 4), "bits_to_target"] = 600.0
    assert bits_verdict(sweep) == (
        "`wyner_ziv` needs 0.0187 kB to the target; 0.25 times those of `qsgd`, the best without client"
        " memory; 1.00 times those of `topk`, the best with client memory.\n"
    )
    never = table.assign(bits_to_target=float("nan"))
    none = "No code with side information reached the target in every seed.\n"
    assert bits_verdict(replace(sweep, methods=never)) == none


def test_rivals_that_some_seeds_alone_took_to_the_target_are_named(sweep):
    table = sweep.methods
    table.loc[table.compressor == "wyner_ziv", "bits_to_target"] = 150.0
    rounds = sweep.rounds[(sweep.rounds.compressor != "qsgd") | (sweep.rounds.bitrate == 1)]
    partly = table[(table.compressor != "qsgd") | (table.bitrate == 1)]
    text = bits_verdict(replace(sweep, methods=partly, rounds=rounds))
    assert text.endswith("client memory; `qsgd` reached it in 1 of 2 seeds, 0.0375 kB.\n")


def test_a_report_can_be_drawn_from_its_tables(results, monkeypatch):
    monkeypatch.setattr(finished, "count", lambda taken: 16)
    preset = preset_of(results, *experiments_of("smoke"))
    text, pictures = draw.draw(preset, {}).read_text(), figures(results)
    for folder in ("runs", "sweeps"):
        shutil.rmtree(results / folder)
    assert draw.draw(preset, {}).read_text() == text
    assert figures(results) == pictures


def test_tables_that_are_read_and_written_stay_as_they_are(tmp_path):
    runs = pd.DataFrame({"sweep": "s", "batch_size": [8, None], "epochs": [None, 2], "loss": 0.1})
    runs = runs.assign(channel="faulty")
    save_tables(tmp_path, runs, pd.DataFrame({"sweep": ["s"], "id": ["a"]}))
    text = (tmp_path / "runs.csv").read_text()
    assert text == "sweep,batch_size,epochs,loss,channel\ns,8,,0.1,faulty\ns,,2,0.1,faulty\n"
    save_tables(tmp_path, *load_sweep(tmp_path, "s"))
    assert (tmp_path / "runs.csv").read_text() == text


def test_a_run_that_names_no_channel_had_a_perfect_one(sweep):
    assert set(sweep.runs.channel) == {"perfect"}


def figures(results):
    return {path.name: path.read_bytes() for path in (results / "figures").iterdir()}


def test_figures_are_drawn_and_reproducible(sweep, tmp_path):
    rows = [("a setting", sweep.rounds, sweep.methods)] * 2
    for column, ylabel in (("test_accuracy", "test accuracy"), ("train_loss", "training loss")):
        first = save(against_bits(rows, column, ylabel), tmp_path / "a", column)
        second = save(against_bits(rows, column, ylabel), tmp_path / "b", column)
        for one, other in zip(first, second, strict=True):
            assert one.stat().st_size > 10_000
            assert one.read_bytes() == other.read_bytes()
    for column in ("accuracy", "excess_loss"):
        png, pdf = save(by_bitrate(rows, column), tmp_path, column)
        assert png.stat().st_size > 10_000
        assert pdf.read_bytes().startswith(b"%PDF")


def test_every_compressor_looks_like_no_other():
    names = [*compressor_names(), "blockmean", "ef_blockmean", "ef_qsgd"]  # three without a style
    assert len({tuple(look(name).values()) for name in names}) == len(names)


def test_losses_are_compared_at_the_lowest_bitrates(sweep):
    axes = against_bits([("a", sweep.rounds, sweep.methods)], "train_loss", "loss").axes[0]
    assert "each at its lowest bitrate" in axes.get_title()
    named = {text.get_text().split(" (")[0] for text in axes.get_legend().get_texts()}
    assert named == {"float32", "qsgd, 1 bit", "topk*, 0.5 bit", "my_own, 2 bit"}


def test_a_loss_below_float32s_is_marked_at_the_foot_of_a_log_axis(sweep):
    losses = sweep.methods.assign(excess_loss=1e-2, excess_loss_low=1e-3, excess_loss_high=1e-1)
    below = (losses.compressor == "wyner_ziv") & (losses.bitrate == 1)
    losses.loc[below, "excess_loss"] = -1e-4
    left = by_bitrate([("a setting", sweep.rounds, losses)], "excess_loss").axes[0]
    marks = [line for line in left.lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert [len(line.get_xdata()) for line in marks] == [1]
    shown = [value for line in left.lines for value in line.get_ydata() if value == value]
    assert min(shown) > 0


def test_bars_are_inside_the_axes_and_a_failure_is_named_with_its_value(sweep):
    table = sweep.methods.assign(accuracy_low=0.88, accuracy_high=0.99)
    table.loc[table.compressor == "my_own", ["accuracy", "accuracy_low"]] = 0.113
    left = by_bitrate([("a setting", sweep.rounds, table)], "accuracy").axes[0]
    assert left.get_ylim() == pytest.approx((0.87, 1))
    assert "my_own (0.11) ↓" in [text.get_text() for text in left.texts]
    table.loc[table.compressor == "qsgd", "accuracy_low"] = 0.4  # of a mean that is shown
    left = by_bitrate([("a setting", sweep.rounds, table)], "accuracy").axes[0]
    assert left.get_ylim()[0] == pytest.approx(0.39)


def test_labels_lead_to_the_last_point_that_is_drawn(sweep):
    """Of a loss on a log axis, and of bits to the target, the last bitrate may have none."""
    table = sweep.methods.assign(excess_loss=1e-2, excess_loss_low=1e-3, excess_loss_high=1e-1)
    table.loc[(table.compressor == "topk") & (table.bitrate == 1), "excess_loss"] = -1e-4
    table.loc[(table.compressor == "topk") & (table.bitrate == 1), "bits_to_target"] = float("nan")
    for axes in by_bitrate([("a", sweep.rounds, table)], "excess_loss").axes:
        (topk,) = [text for text in axes.texts if text.get_text() == "topk*"]
        shares = axes.transAxes.transform(topk.xy)
        assert axes.transData.inverted().transform(shares)[0] == pytest.approx(0.5)


def test_a_legend_says_which_line_is_below_the_axes(sweep):
    figure = against_bits([("a", sweep.rounds, sweep.methods)], "test_accuracy", "accuracy")
    named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert not any("below" in text for text in named)
    own = sweep.rounds.compressor == "my_own"
    rounds = sweep.rounds.assign(test_accuracy=sweep.rounds.test_accuracy.mask(own, 0.1))
    figure = against_bits([("a", rounds, sweep.methods)], "test_accuracy", "accuracy")
    named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [text for text in named if "below" in text] == ["my_own, 2 bit (below the axis)"]


def test_bitrates_are_named_where_curves_are_apart(sweep):
    for column, ylabel in (("test_accuracy", "accuracy"), ("train_loss", "loss")):
        figure = against_bits([("a", sweep.rounds, sweep.methods)], column, ylabel)
        panel = next(a for a in figure.axes if "by bits" in a.get_title())
        named = {text.get_text(): text.xy for text in panel.texts}
        for line in panel.lines:
            points = list(zip(line.get_xdata(), line.get_ydata(), strict=True))
            highest = points[0] if points[0][1] > points[-1][1] else points[-1]
            assert line.get_color() == "black" or highest in named.values()


def test_draw_writes_tables_figures_and_report(results):
    entries = [
        {"name": "smoke", "title": "a setting", "dataset": "digits", "shows": "accuracy"},
        {"name": "absent", "title": "another", "dataset": "mnist", "shows": "loss"},
    ]
    text = draw.draw(preset_of(results, *entries), {}).read_text()
    assert "- `absent`: has no finished float32 run" in text
    assert len(pd.read_csv(results / "runs.csv")) == 16
    assert len(pd.read_csv(results / "methods.csv")) == 8
    assert (results / "figures" / "accuracy_vs_bits_digits.pdf").exists()


def test_wandb_has_the_report_where_that_is_asked_for(results):
    preset = preset_of(results, *experiments_of("smoke"))
    draw.draw(preset, {})
    assert not (results / "wandb").exists()
    draw.draw(replace(preset, tracking="wandb"), {})
    (run,) = (results / "wandb").glob("offline-run-*-report-reproduce")
    assert (run / "report/report.md").read_text() == (results / "report.md").read_text()
    kept = {path.name for path in (run / "report/figures").iterdir()}
    assert kept == {path.name for path in (results / "figures").iterdir()}


def test_measurements_without_training_have_a_report_of_their_own(results):
    for name, bitrate in (("eden", 1), ("eden", 0.5), ("wyner_ziv", 2), ("none", 32)):
        compressor = wzfl.build_compressor(name, bitrate=bitrate)
        for snr_db in (10, 20):
            measured = measure(compressor, Gaussian(2, 500, snr_db), 1, 0)
            merge_row(results / "rate_distortion.csv", measured | {"compressor": name})
    assert draw.draw(preset_of(results), {}) is None
    text = (results / "rate_distortion.md").read_text()
    assert "## gaussian: 2 vectors of 500 coordinates, side information at 10 dB" in text
    assert "## gaussian: 2 vectors of 500 coordinates, side information at 20 dB" in text
    assert re.search(r"\| compressor +\| 0\.5 +\| 1 +\| 2 +\| encode MB/s", text)
    assert re.search(r"\| Wyner-Ziv +\| wyner_ziv .*\| 0 of 2 +\|", text)
    assert "![rate_distortion_gaussian](figures/rate_distortion_gaussian.png)" in text


def test_drawing_nothing_says_what_to_do(tmp_path):
    with pytest.raises(SystemExit, match="run `make reproduce` first"):
        draw.draw(preset_of(tmp_path, *experiments_of("smoke")), {})


def test_errors_are_compared_by_seed(sweep):
    """qsgd at 1 bit has errors 0.01 and 0.04, at 4 bits four times those; wyner_ziv as qsgd."""
    text = error_section(sweep.runs)
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    cells = {(row[0].strip(), row[2].strip()): [cell.strip() for cell in row] for row in rows}
    assert cells["qsgd", "1"][4] == "-17.0 ± 3.0"
    assert cells["qsgd", "4"][4] == "-11.0 ± 3.0"
    assert cells["qsgd", "4"][6] == "25 %"
    assert cells["wyner_ziv", "1"][1] == "last"
    assert "- `wyner_ziv` at 1 bits: 0.0 ± 0.0 dB above `qsgd`." in text


def test_accuracy_is_shown_by_what_is_lost(results):
    job = 0
    for loss, accuracies in ((0.0, (0.9, 0.92)), (0.3, (0.88, 0.9))):
        for seed, accuracy in enumerate(accuracies):
            for name in ("none", "wyner_ziv"):
                left = accuracy if name == "none" else accuracy - loss / 10
                write_run(results, "lossy", job, name, 1.0, seed + 10, left, loss=loss)
                job += 1
    entry = {"name": "lossy", "title": "a setting", "dataset": "digits"}
    entry |= {"shows": "conditions", "varies": "loss"}
    text = draw.draw(preset_of(results, entry), {}).read_text()
    assert "# Accuracy under other conditions" in text
    assert (
        "\n\n## Share of payloads lost: a setting\n\nSetting: data set digits; partition iid;"
        in text
    )
    assert "; 4 clients; 4 in a round; 3 rounds; step size 0.5; batches of 8.\n\nFinal" in text
    assert "\n\n\n" not in text
    rows = rows_of(text)
    assert ["compressor", "bits", "0", "0.3", "change", "client memory"] in rows
    (row,) = [row for row in rows if row[:2] == ["wyner_ziv", "1"]]
    assert row[2:4] == ["0.9100 (0.9000 to 0.9200)", "0.8600 (0.8500 to 0.8700)"]
    assert row[4].startswith("**-5.00 (-5.00 to -5.00)**")
    assert (results / "figures" / "accuracy_by_condition.png").stat().st_size > 10_000


def test_what_is_told_beside_the_weights_has_its_price(sweep):
    told = sweep.runs.compressor.map({"wyner_ziv": 16.0, "my_own": 160.0}).fillna(0) + 32 * DIM
    runs = sweep.runs.assign(downlink_bits=told * sweep.runs.clients_per_round * sweep.runs.rounds)
    text = downlink_section([replace(sweep, runs=runs)])
    assert "Weights go down as float32, 0.4 kB per client and round" in text
    rows = rows_of(text)
    title = sweep.title
    assert [title, "wyner_ziv", "last", "2", "0.16", "16 % to 16 %"] in rows
    assert [title, "my_own", "zero", "20", "1.6", "80 % to 40 %"] in rows
    weights_alone = sweep.runs.assign(downlink_bits=1.0)
    assert downlink_section([replace(sweep, runs=weights_alone.assign(rounds=1))]) == ""


def test_a_code_under_one_value_of_a_condition_is_compared_with_the_others():
    """As float32 is by side information, which it does not use."""
    rows = [
        ("none", "zero", 0.9, 1.0), ("wyner_ziv", "last", 0.8, 0.5), ("wyner_ziv", "zero", 0.7, 1.0)
    ]  # fmt: skip
    runs = pd.DataFrame(rows, columns=["compressor", "side_information", "final_accuracy", "error"])
    runs = runs.rename(columns={"error": "side_information_error"})
    runs = runs.assign(seed=0, measured_bitrate=1.0, client_floats=0)
    text = condition_section(runs, "side_information")
    rows = rows_of(text)
    assert ["float32", "1", "—", "0.9000 (0.9000 to 0.9000)", "none"] in rows
    assert ["wyner_ziv", "0.5", "1"] in rows  # what history is worth
    figure = accuracy_by_condition([("a setting", "side_information", runs)])
    (axes,) = [axes for axes in figure.axes if axes.get_visible()]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["last", "zero"]
    assert axes.get_xlabel() == "side information"
    assert {text.get_text() for text in axes.texts} == {"float32", "wyner_ziv"}
    assert {0.9} in [set(line.get_ydata()) for line in axes.lines]  # across


def test_codes_at_a_value_without_an_order_stand_side_by_side_and_are_marked():
    rows = [(n, s, 0.9) for n in ("wyner_ziv", "slepian_wolf") for s in ("last", "linear", "zero")]
    runs = pd.DataFrame(rows, columns=["compressor", "side_information", "final_accuracy"])
    runs = runs.assign(seed=0, client_floats=runs.compressor.map({"slepian_wolf": 9}).fillna(0))
    figure = accuracy_by_condition([("a setting", "side_information", runs)])
    axes = figure.axes[0]
    assert axes.get_title().startswith("Side information: a setting\n")
    points = [line.get_xdata() for line in axes.lines if line.get_marker() in "D*"]
    assert [list(xs) for xs in points] == [[-0.1, 0.9, 1.9], [0.1, 1.1, 2.1]]
    assert {text.get_text() for text in axes.texts} == {"slepian_wolf*", "wyner_ziv"}
    assert figure.get_supxlabel().startswith("* keeps a vector")


def test_a_diverged_run_is_not_averaged_away_by_condition():
    rows = [
        ("eden", 1.0, 0, 0.9),
        ("eden", 1.0, 1, None),
        ("eden", 2.0, 0, 0.8),
        ("eden", 2.0, 1, 0.8),
    ]
    runs = pd.DataFrame(rows, columns=["compressor", "epochs", "seed", "final_accuracy"])
    runs = runs.assign(side_information_error=1.0, side_information="zero")
    runs = runs.assign(measured_bitrate=1.0, client_floats=0)
    (row,) = [line for line in condition_section(runs, "epochs").splitlines() if "| eden" in line]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[2:5] == ["1 of 2 diverged", "0.8000 (0.8000 to 0.8000)", "—"]
    (axes,) = [a for a in accuracy_by_condition([("a", "epochs", runs)]).axes if a.get_visible()]
    assert 0.9 not in [value for line in axes.lines for value in line.get_ydata()]
    assert [0.8] in [list(line.get_ydata()) for line in axes.lines]  # a point, not a line across


def test_where_no_method_reaches_the_target_there_is_still_a_figure(sweep, tmp_path):
    never = sweep.methods.assign(bits_to_target=float("nan"))
    for draw_one in (against_bits, by_bitrate):
        column = "test_accuracy" if draw_one is against_bits else "accuracy"
        more = ("test accuracy",) if draw_one is against_bits else ()
        save(draw_one([("a setting", sweep.rounds, never)], column, *more), tmp_path, "never")


def test_presets_name_experiments_that_exist():
    folder = Path(draw.__file__).parents[1] / "conf" / "experiment"
    presets = yaml.safe_load((folder.parent / "reproduce.yaml").read_text())
    for preset in presets:
        for entry in experiments_of(preset):
            experiment = entry.get("experiment", entry["name"])
            config = yaml.safe_load((folder / f"{experiment}.yaml").read_text())
            assert config["sweep"] == experiment
            assert ("experiment" in entry) == ("overrides" in entry)
            assert (entry["shows"] == "conditions") == (entry.get("varies") in CONDITIONS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shows": "acuracy"}, "shows of mine must be one of accuracy, loss, .*; got 'acuracy'"),
        ({"shows": None}, "shows of mine must be one of accuracy, .*; got None"),
        ({"shows": "conditions"}, "varies of mine must be one of loss, clients, .*; got None"),
    ],
)
def test_what_no_report_is_about_is_refused(monkeypatch, changed, message):
    entry = {"name": "mine", "title": "a setting", "dataset": "digits"} | changed
    monkeypatch.setattr("presets._presets", lambda: {"own": [entry]})
    with pytest.raises(InputError, match=message):
        experiments_of("own")


def committed(name):
    """A file of results/: whoever runs `make reproduce` gets one of their own."""
    command = ["git", "show", f"HEAD:./results/{name}"]
    root = Path(draw.__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout with committed results")
    return done.stdout


def tables_of_the_readme(column):
    """Those that have such a column."""
    text = (Path(draw.__file__).parents[1] / "README.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [table for table in tables if f"| {column} " in table.splitlines()[0]]


def test_the_readme_shows_the_reports_tables():
    bits, losses = tables_of_the_readme("best bitrate"), tables_of_the_readme("bitrate")
    assert (len(bits), len(losses)) == (2, 1)
    assert all(table in committed("report.md") for table in bits)
    assert losses[0] in committed("convex/report.md")


def test_the_readme_shows_the_errors_of_the_committed_runs():
    """At 2 and at 4 bits, means over seeds of decibels."""
    (table,) = tables_of_the_readme("IID, 64")
    head, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()
    )
    assert head[1:] == ["by class, 600", "IID, 64", "IID, 600", "IID, all"]
    runs = pd.read_csv(io.StringIO(committed("beyond/runs.csv")), keep_default_na=False)
    errors = decibel(runs.error).groupby([runs[name] for name in ("sweep", *METHOD)]).mean()
    policies = runs.groupby("compressor").side_information.unique()
    assert len(rows) == 6
    for name, *cells in rows:
        code, *policy = re.findall("`(.*?)`", name)
        assert not policy or policies[code].tolist() == policy
        for regime, cell in zip(
            ("by_class_600", "iid_64", "iid_600", "iid_full"), cells, strict=True
        ):
            both = [f"{errors[f'regime_{regime}', code, bitrate]:.1f}" for bitrate in (2, 4)]
            assert cell == " / ".join(both).replace("-", "−")


def test_the_examples_of_a_federation_run(capsys):
    """Errors are those of a code with history, and of a mean of sparse updates that lacks nothing."""
    text = (Path(draw.__file__).parents[1] / "docs" / "library.md").read_text()
    for lines in re.findall(r"```python\n(import torch, wzfl.*?)```", text, re.DOTALL):
        exec(lines, {})
    told = capsys.readouterr().out.replace("tensor(", "").replace(")", "")
    informed, remembered = map(float, told.split())
    assert informed < 0.03
    assert remembered < 0.2


def test_the_readme_s_example_runs(capsys):
    text = (Path(draw.__file__).parents[1] / "README.md").read_text()
    (lines,) = re.findall(r"```python\n(import torch.*?)```", text, re.DOTALL)
    exec(lines, {})
    bits, error = capsys.readouterr().out.replace("tensor(", "").replace(")", "").split()
    assert float(bits) == pytest.approx(2, rel=0.02)
    assert float(error) == pytest.approx(0.318 * 0.1**2, rel=0.05)


@pytest.mark.parametrize("only", [["none"], ["none-32-0", "my_own"], ["none", "qsgd-4", "topk-1"]])
def test_an_interrupted_sweep_is_drawn_as_far_as_it_came(results, only):
    for mark in (results / "sweeps" / "smoke").iterdir():
        if not mark.read_text().startswith(tuple(only)):
            mark.unlink()
    for shows in ("accuracy", "loss", "error"):
        entries = [{"name": "smoke", "title": "a setting", "dataset": "digits", "shows": shows}]
        text = draw.draw(preset_of(results, *entries), {}).read_text()
        assert "## a setting" in text
        marks = SweepFolder(results / "sweeps" / "smoke").count()
        assert f"- `smoke`: {marks} of its 20 runs have finished; these are shown" in text
