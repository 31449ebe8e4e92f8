"""The paper's claims are judged by intervals, from runs of the same seed."""

import pandas as pd
import pytest

from wzfl.reporting.claims import claims_section, differences
from wzfl.reporting.summary import Sweep

BITRATES = (0.5, 1.0)


def runs_of(*rows):
    """compressor, bitrate, accuracies by seed, and how far off the server's history was."""
    frame = pd.DataFrame(
        [
            {"compressor": name, "bitrate": bitrate, "seed": seed, "final_accuracy": accuracy}
            | {"side_information_error": error, "id": f"{name}-{bitrate:g}-{seed}"}
            for name, bitrate, accuracies, error in rows
            for seed, accuracy in enumerate(accuracies)
        ]
    )
    memory = frame.compressor.map({"topk": 100}).fillna(0)
    plain = frame.compressor.isin(["none", "qsgd", "topk"])
    return frame.assign(
        client_floats=memory,
        side_information=plain.map({True: "zero", False: "last"}),
        dataset="digits",
    )


RUNS = runs_of(
    ("none", 32.0, (0.9, 0.91, 0.92), 1.0),
    ("wyner_ziv", 0.5, (0.80, 0.81, 0.82), 2.0),
    ("wyner_ziv", 1.0, (0.88, 0.90, 0.92), 0.5),
    ("slepian_wolf", 1.0, (0.88, 0.90, 0.92), 0.5),
    ("qsgd", 0.5, (0.70, 0.72, 0.71), 1.0),
    ("qsgd", 1.0, (0.89, 0.89, 0.91), 1.0),
    ("topk", 1.0, (0.93, 0.955, 0.97), 1.0),
)


def section(runs, shows="accuracy"):
    empty = pd.DataFrame()
    return claims_section([Sweep("s", "a setting", runs, empty, empty, shows)])


def history_of(code, runs):
    """The row of a table that says how far off history was."""
    (row,) = [line for line in section(runs).splitlines() if f"| a setting | {code} " in line]
    return row


def test_differences_are_to_schemes_without_side_information():
    found = differences("wyner_ziv", RUNS, "final_accuracy", 100)
    assert set(found) == {("qsgd", 0.5), ("qsgd", 1.0), ("topk", 1.0)}
    assert found["qsgd", 0.5].mean == pytest.approx(10)
    assert found["topk", 1.0].mean == pytest.approx(-5.1667, abs=1e-4)


def test_what_is_run_with_side_information_is_no_rival_whatever_its_name():
    own = RUNS.replace({"compressor": {"slepian_wolf": "daq"}})
    found = differences("wyner_ziv", own, "final_accuracy", 100)
    assert {rival for rival, _ in found} == {"qsgd", "topk"}
    without = own.assign(
        side_information=own.side_information.mask(own.compressor == "daq", "zero")
    )
    found = differences("wyner_ziv", without, "final_accuracy", 100)
    assert {rival for rival, _ in found} == {"daq", "qsgd", "topk"}


def test_a_verdict_needs_an_interval_without_zero():
    text = section(RUNS)
    assert "- against qsgd the claim holds (ahead at 0.5 bit; undecided at 1 bit)." in text
    assert "- against topk* the claim fails (behind at 1 bit)." in text
    assert "| qsgd               | **+10.00 (+7.52 to +12.48)**, p = 0.0033 |" in text
    assert "qsgd-1-2 slepian_wolf-1-0" in text


def test_among_many_comparisons_a_difference_must_be_surer():
    """The same one, of p = 0.0033, beside others that chance explains."""
    many = pd.concat([RUNS, *(rival_like_wyner_ziv(place) for place in range(30))])
    text = section(many[many.compressor != "slepian_wolf"])
    assert "| **+10.00 (+7.52 to +12.48)**, p = 0.0033 |" in text
    assert "- against qsgd the claim is undecided at every bitrate." in text


def rival_like_wyner_ziv(place):
    """Accuracies as near to those of wyner_ziv at 1 bit as chance has them."""
    accuracies = (0.88 + 1e-4 * place, 0.91, 0.91)
    return runs_of((f"rival{place}", 1.0, accuracies, 1.0)).assign(side_information="zero")


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (0.5, "helps at 1 bit; harms at 0.5 bit"),
        (1.5, "harms at 0.5, 1 bit"),
        (float("nan"), "harms at 0.5 bit"),
    ],
)
def test_history_is_judged_at_every_bitrate(error, verdict):
    code = RUNS.compressor.eq("wyner_ziv") & RUNS.bitrate.eq(1)
    text = section(
        RUNS.assign(side_information_error=RUNS.side_information_error.mask(code, error))
    )
    assert f"| a setting | wyner_ziv    | last               | {verdict} " in text
    assert f"`wyner_ziv`: {verdict}<br>`slepian_wolf`: helps at 1 bit" in text


def test_the_table_says_what_is_measured():
    text = section(RUNS)
    assert "| history " in text
    assert "|history − gradient|² / |gradient|²" in text


def test_history_that_helps_on_average_may_be_a_matter_of_seeds():
    code = RUNS.compressor.eq("wyner_ziv") & RUNS.bitrate.eq(1)
    runs = RUNS.copy()
    for errors, verdict in (((0.8, 1.1, 0.9), "undecided"), ((0.8, 0.99, 0.9), "helps")):
        runs.loc[code, "side_information_error"] = errors
        assert f"{verdict} at 1 bit" in history_of("wyner_ziv", runs)


def test_both_claims_in_short_come_first():
    (row,) = [line for line in section(RUNS).splitlines() if "accuracy_vs_bits_digits" in line]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:4] == [
        *("a setting", "3"),
        "`wyner_ziv`: helps at 1 bit; harms at 0.5 bit<br>`slepian_wolf`: helps at 1 bit",
        "`wyner_ziv`: 1 / 1 / 1<br>`slepian_wolf`: 0 / 1 / 1",
    ]
    assert cells[4] == "[accuracy_vs_bits_digits](figures/accuracy_vs_bits_digits.png)"


def test_less_loss_is_better():
    text = section(RUNS.assign(final_train_loss=RUNS.final_accuracy), "loss")
    assert "- against qsgd the claim fails (behind at 0.5 bit; undecided at 1 bit)." in text


def test_other_codes_with_side_information_are_judged_after_the_paper_s():
    text = section(RUNS)
    assert text.index("`wyner_ziv` less") < text.index("`slepian_wolf` less")
    other = section(RUNS[RUNS.compressor != "wyner_ziv"])
    assert "`slepian_wolf` less" in other
    assert "helps at 1 bit" in history_of("slepian_wolf", RUNS[RUNS.compressor != "wyner_ziv"])


def test_without_side_information_there_is_nothing_to_judge():
    assert section(RUNS[RUNS.side_information_error == 1]) == ""
    assert section(RUNS, "error") == ""
