"""Compressors on vectors: sources, measurements, the table and the figures."""

import subprocess
import threading
from math import isfinite, log10
from pathlib import Path

import draw
import measure_vectors
import numpy as np
import pandas as pd
import pytest
import rate_distortion
import record_updates
import torch
import yaml

import wzfl
from wzfl.config import compressor_names, conf_dir
from wzfl.rate_distortion import COLUMNS, KEY, load_table, measure, merge_row
from wzfl.reporting.figures import save
from wzfl.reporting.rate_distortion_plots import rate_distortion as figure_of
from wzfl.sources import Gaussian, Lognormal, Recorded, Sparse, save_recording
from wzfl.tensor_file import save_tensors
from wzfl.theory import best_reach, gap_db, modulo_distortion

SOURCES = [Gaussian, Lognormal, Sparse]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_side_information_is_as_good_as_asked_for(source, snr_db):
    updates, side = source(3, 20_000, snr_db).draw(0)
    assert updates.shape == side.shape == (3, 20_000)
    ratio = (updates - side).square().sum(dim=1) / updates.square().sum(dim=1)
    torch.testing.assert_close(
        -10 * ratio.log10(), torch.full((3,), float(snr_db)), atol=0.15, rtol=0
    )
    again, _ = source(3, 20_000, snr_db).draw(0)
    other, _ = source(3, 20_000, snr_db).draw(1)
    assert torch.equal(updates, again)
    assert not torch.equal(updates, other)


def test_sparse_and_lognormal_are_what_they_say():
    assert Sparse(2, 10, 20, density=0.03).name == "sparse_density_0.03"
    assert Lognormal(2, 10, 20, sigma=0.5).name == "lognormal_sigma_0.5"
    updates, _ = Sparse(2, 10_000, 20, density=0.03).draw(0)
    assert (updates != 0).sum(dim=1).tolist() == [300, 300]
    updates, _ = Lognormal(2, 100_000, 20, sigma=0.5).draw(0)
    assert float(updates.abs().log().std()) == pytest.approx(0.5, rel=0.02)
    assert abs(float(updates.sign().mean())) < 0.01


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ("5", r"must be a list, e.g. record_rounds=[5]; got 5"),
        ("abc", "must be a list; got 'abc'"),
        ("[a]", "must be a valid integer; got ['a']"),
        ("[2.5]", "must be a valid integer; got [2.5]"),
        ("[0]", "must be greater than or equal to 1; got [0]"),
        ("[]", "must have at least 1 item after validation, not 0; got []"),
    ],
)
def test_rounds_to_record_are_a_list_of_rounds(call, rounds, message):
    status, printed = call(record_updates, "experiment=digits_by_class", f"record_rounds={rounds}")
    assert status == 2
    assert f"error: record_rounds {message}; see conf/record_updates.yaml\n" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        (Gaussian, {"clients": 0}),
        (Gaussian, {"snr_db": 1e9}),
        (Gaussian, {"snr_db": -101}),
        (Sparse, {"density": 0}),
        (Lognormal, {"sigma": -1}),
        (Lognormal, {"sigma": 100}),
    ],
)
def test_unusable_sources_are_refused(source, settings):
    with pytest.raises(wzfl.InputError, match="got"):
        source(**{"clients": 2, "dim": 10, "snr_db": 10} | settings)


@pytest.mark.parametrize("snr_db", [-100, 100])
@pytest.mark.parametrize(("source", "settings"), [(Gaussian, {}), (Lognormal, {"sigma": 5})])
def test_the_farthest_sources_are_measured(source, settings, snr_db):
    far = source(2, 20_000, snr_db, **settings)
    done = measure(wzfl.build_compressor("wyner_ziv"), far, 1, 0)
    assert -10 * log10(done["side_information_error"]) == pytest.approx(snr_db, abs=3)
    assert isfinite(done["nmse"])


@pytest.mark.parametrize("bits", [2, 4])
def test_a_known_code_is_as_far_from_the_limit_as_computed(bits):
    row = measure(wzfl.build_compressor("wyner_ziv", bitrate=bits), Gaussian(8, 2**15, 20), 1, 0)
    distortion = modulo_distortion(2**bits, best_reach(2**bits, "dither"), "dither")
    assert row["limit"] == "wyner_ziv"
    assert row["bits_per_coordinate"] == 8 * (2**15 * bits // 8 + 4 + 10) / 2**15
    assert row["gap_db"] == pytest.approx(gap_db(distortion, row["bits_per_coordinate"]), abs=0.15)


def test_errors_of_the_mean_fall_with_clients_unless_biased():
    unbiased = measure(wzfl.build_compressor("eden", bitrate=1), Gaussian(10, 4096, 20), 1, 0)
    assert unbiased["nmse_of_mean"] == pytest.approx(unbiased["nmse"] / 10, rel=0.1)
    assert unbiased["limit"] == "shannon"
    exact = measure(wzfl.build_compressor("none"), Gaussian(2, 100, 20), 1, 0)
    assert exact["nmse"] == 0
    assert exact["gap_db"] != exact["gap_db"]


def test_side_information_without_an_error_is_drawn(tmp_path):
    rows = pd.DataFrame([row(limit="wyner_ziv", side_information_error=0.0, nmse=0.5)])
    save(figure_of(rows), tmp_path, "figure")
    assert (tmp_path / "figure.pdf").stat().st_size > 5000


def test_votes_have_no_error():
    with pytest.raises(wzfl.InputError, match="votes without a magnitude"):
        measure(wzfl.build_compressor("signsgd"), Gaussian(2, 100, 20), 1, 0)


def row(**changes):
    values = dict.fromkeys(COLUMNS, 1.0) | {"source": "gaussian", "compressor": "none"}
    return values | {"limit": "shannon"} | changes


def test_a_row_replaces_that_of_the_same_key_only(tmp_path):
    path = tmp_path / "table.csv"
    merge_row(path, row(nmse=0.5))
    merge_row(path, row(nmse=0.1234567890123, snr_db=float("nan"), source="gradients"))
    merge_row(path, row(nmse=0.25))
    merge_row(path, row(nmse=0.125, bitrate=0.5))
    table = load_table(path)
    assert table.nmse.tolist() == [0.125, 0.25, 0.1234567890123]
    assert table.compressor.tolist() == ["none"] * 3
    merge_row(path, row(nmse=0.75, snr_db=float("nan"), source="gradients"))
    assert load_table(path).nmse.tolist() == [0.125, 0.25, 0.75]


def test_writers_take_turns(tmp_path):
    path = tmp_path / "table.csv"
    writers = [
        threading.Thread(target=merge_row, args=(path, row(bitrate=float(bitrate))))
        for bitrate in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert load_table(path).bitrate.tolist() == [float(bitrate) for bitrate in range(8)]
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_a_sweep_fills_the_table_and_draws(call):
    status, printed = call(
        rate_distortion, "-m", "hydra/launcher=basic", "dim=500", "clients=2",
        "compressor=eden,slepian_wolf_posterior,wyner_ziv,signsgd", "bitrate=1,9",
    )  # fmt: skip
    assert status == 0
    assert "left out eden: bitrate=9 is out of range" in printed
    assert "left out signsgd" in printed
    table = load_table(Path("results/rate_distortion.csv"))
    assert table[["compressor", "bitrate"]].to_numpy().tolist() == [
        ["eden", 1.0],
        ["slepian_wolf_posterior", 1.0],
        ["slepian_wolf_posterior", 9.0],
        ["wyner_ziv", 1.0],
        ["wyner_ziv", 9.0],
    ]
    assert not table.duplicated(KEY).any()
    assert Path("results/figures/rate_distortion_gaussian.pdf").stat().st_size > 5000


def test_a_single_run_explains_a_refusal(call):
    status, printed = call(rate_distortion, "compressor=eden", "bitrate=9", "dim=500")
    assert status == 2
    assert "bitrate=9 is out of range for eden" in printed


def test_recorded_updates_are_a_source(call):
    quick = ["experiment=digits_by_class", "clients=3", "record_rounds=[1,4]", "threads=1"]
    status, printed = call(record_updates, *quick)
    assert status == 0
    name = "digits_by_class_round_4"
    assert f"results/updates/{name}.safetensors" in printed
    updates, side = Recorded("results/updates", name).draw(0)
    assert updates.shape == side.shape == (3, 7510)
    assert 0 < (updates - side).norm() < 2 * updates.norm()
    assert not Recorded("results/updates", "digits_by_class_round_1").draw(0)[1].any()
    status, printed = call(
        rate_distortion, "source=gradients", f"source.recording={name}", "compressor=qsgd"
    )
    assert status == 0
    assert f"gradients_{name}: qsgd" in printed


def test_compressors_are_told_how_many_clients_a_recording_has(call, monkeypatch):
    seen = []
    measured = rate_distortion.measure

    def spy(compressor, *arguments):
        seen.append(compressor.cohort)
        return measured(compressor, *arguments)

    monkeypatch.setattr(rate_distortion, "measure", spy)
    path = Path("results/updates/some.safetensors")
    save_recording(path, torch.randn(3, 50), torch.zeros(3, 50), {})
    arguments = ["source=gradients", "source.recording=some", "compressor=correlated"]
    assert call(rate_distortion, *arguments)[0] == 0
    assert seen == [3]


def test_vectors_are_drawn_without_any_training(tmp_path, monkeypatch, capsys):
    merge_row(tmp_path / "rate_distortion.csv", row(side_information_error=0.01, limit="shannon"))
    monkeypatch.setattr("sys.argv", ["draw.py", "--results-dir", str(tmp_path)])
    draw.main()
    assert "figures of vectors only: no finished experiments" in capsys.readouterr().out
    assert [path.name for path in sorted((tmp_path / "figures").iterdir())] == [
        "rate_distortion_gaussian.pdf",
        "rate_distortion_gaussian.png",
    ]


def test_what_is_not_recorded_says_how_to_record_it(call, tmp_path):
    status, printed = call(rate_distortion, "source=gradients")
    assert status == 2
    assert "record with `python scripts/record_updates.py`" in printed
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(wzfl.InputError, match="is no recording of updates"):
        Recorded(str(tmp_path), "broken").draw(0)


def test_a_recording_that_was_damaged_is_refused(tmp_path):
    path = tmp_path / "some.safetensors"
    save_recording(path, torch.ones(2, 3), torch.zeros(2, 3), {"round": 4})
    updates, _ = Recorded(str(tmp_path), "some").draw(0)
    assert updates.equal(torch.ones(2, 3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(wzfl.InputError, match=r"no recording .* digest.*; remove it and record it"):
        Recorded(str(tmp_path), "some").draw(0)


def test_what_else_is_in_such_a_file_is_no_recording(tmp_path):
    save_tensors(tmp_path / "other.safetensors", {"updates": torch.ones(2, 3)}, {})
    with pytest.raises(wzfl.InputError, match="is no recording of updates"):
        Recorded(str(tmp_path), "other").draw(0)


def test_a_recording_is_there_as_a_whole(tmp_path):
    path = tmp_path / "updates" / "some.safetensors"
    save_recording(path, torch.ones(2, 3), torch.zeros(2, 3), {"round": 4})
    assert [file.name for file in path.parent.iterdir()] == ["some.safetensors"]


def test_a_recording_on_a_full_disk_is_one_clear_error(tmp_path, disk_of):
    path = tmp_path / "updates" / "some.safetensors"
    with disk_of(100), pytest.raises(wzfl.InputError, match="can not be written to"):
        save_recording(path, torch.ones(2, 300), torch.ones(2, 300), {})
    assert list(path.parent.iterdir()) == []


def test_a_recording_that_can_not_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "updates").write_text("a file")
    with pytest.raises(wzfl.InputError, match=str(tmp_path / "updates")):
        save_recording(
            tmp_path / "updates" / "some.safetensors", torch.ones(2, 3), torch.ones(2, 3), {}
        )


def measurements(source="gaussian", side_information_error=0.01):
    return pd.DataFrame(
        [
            row(
                source=source, compressor=name, bitrate=bits, bits_per_coordinate=bits,
                nmse=4.0**-bits * loss, gap_db=loss, limit=limit,
                side_information_error=side_information_error,
                dim=1000, clients=10, snr_db=20.0,
            )
            for name, loss, limit in (("eden", 2, "shannon"), ("wyner_ziv", 0.05, "wyner_ziv"))
            for bits in (1.0, 2.0, 4.0)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("source", ["gaussian", "gradients_some"])
def test_figures_are_drawn_and_reproducible(tmp_path, source):
    rows = measurements(source)
    first = save(figure_of(rows), tmp_path / "a", "figure")
    second = save(figure_of(rows), tmp_path / "b", "figure")
    for one, other in zip(first, second, strict=True):
        assert one.stat().st_size > 10_000
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("error", [0.01, 0.9])
def test_limits_are_named_beside_the_axes_one_above_the_other(error):
    left, right = figure_of(measurements(side_information_error=error)).axes
    places = {text.get_text(): text.get_position() for text in left.texts}
    assert set(places) == {
        *("nothing sent", "side information alone"),
        *("Shannon limit", "Wyner-Ziv limit"),
    }
    assert all(x > 1 for x, _ in places.values())
    heights = sorted(y for _, y in places.values())
    assert min(np.diff(heights)) > 0.06
    assert right.get_ylabel().endswith("limit of as many bits, in dB")


def test_what_is_listed_is_measured_and_what_has_no_data_left_out(monkeypatch, tmp_path, capsys):
    commands = []

    def note(command, **_):
        commands.append([Path(command[1]).name, *command[2:]])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", note)
    monkeypatch.setattr(
        measure_vectors, "missing_datasets", lambda _: {"cifar10_jpeg": "no cifar10_jpeg"}
    )
    monkeypatch.setattr("sys.argv", ["measure_vectors.py", "--results-dir", str(tmp_path)])
    assert measure_vectors.main() == 0
    assert "going on without: no cifar10_jpeg" in capsys.readouterr().out
    folder = f"results_dir={tmp_path}"
    sweeps = [command[1:] for command in commands if command[0] == "rate_distortion.py"]
    assert ["-m", folder, "source=gaussian,lognormal,sparse"] in sweeps
    recorded = [command[2] for command in commands if command[0] == "record_updates.py"]
    assert recorded == [
        f"recording=mnist_{name}" for name in ("by_class", "iid", "cnn_by_class", "cnn_iid")
    ]
    measured = [arguments[3] for arguments in sweeps if "source=gradients" in arguments]
    assert measured[:2] == [f"source.recording=mnist_by_class_round_{round}" for round in (5, 60)]
    assert len(measured) == 2 * len(recorded)


def test_the_list_names_what_exists():
    plan = yaml.safe_load((conf_dir() / "vectors.yaml").read_text())
    asked = [*plan["measure"], *(entry["measure"] for entry in plan["recordings"])]
    compressors = {
        name
        for arguments in asked
        for argument in arguments
        if argument.startswith("compressor=")
        for name in argument.removeprefix("compressor=").split(",")
    }
    assert compressors <= set(compressor_names())
    for entry in plan["recordings"]:
        experiment = entry["record"][0].removeprefix("experiment=")
        assert (conf_dir() / "experiment" / f"{experiment}.yaml").is_file()
