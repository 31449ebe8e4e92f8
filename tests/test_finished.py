"""What is drawn of experiments that have run in part, or not here; nothing that was there is lost."""

import draw
import finished
import pandas as pd
import presets
import pytest
import reproduce
import step_sizes
from filelock import FileLock, Timeout
from presets import Preset, experiments_of
from test_report import write_run

from wzfl import InputError
from wzfl.reporting.summary import load_tables
from wzfl.results import SweepFolder, locked
from wzfl.tables import read_table, save_table

ENTRY = {"name": "smoke", "title": "a setting", "dataset": "digits", "shows": "accuracy"}
ASKED = 20  # runs of conf/experiment/smoke.yaml


@pytest.fixture
def results(tmp_path):
    """Of three runs the tables alone; no run is at hand."""
    for job, seed in enumerate((0, 1, 2)):
        write_run(tmp_path, "smoke", job, "none", 32, seed, 0.9)
    draw.draw(preset_of(tmp_path, ENTRY), {})
    folder = SweepFolder(tmp_path / "sweeps" / "smoke")
    folder.forget(folder.marks())
    return tmp_path


def preset_of(results, *experiments):
    return Preset("make smoke", list(experiments), results)


def seeds(runs):
    return sorted(runs.seed)


def test_fewer_runs_than_the_tables_have_do_not_take_their_place(results):
    write_run(results, "smoke", 0, "none", 32, 7, 0.5)
    text = draw.draw(preset_of(results, ENTRY), {}).read_text()
    assert "## Not run, or not to the end" in text
    assert f"- `smoke`: 1 of its {ASKED} runs have finished; the 3 that runs.csv has of it" in text
    assert seeds(load_tables(results, "smoke")[0]) == [0, 1, 2]


def test_more_runs_than_the_tables_have_are_shown_and_what_lacks_is_said(results):
    for job in range(4):
        write_run(results, "smoke", job, "none", 32, 10 + job, 0.5)
    text = draw.draw(preset_of(results, ENTRY), {"smoke": "some failed"}).read_text()
    assert f"- `smoke`: some failed; 4 of its {ASKED} runs have finished; these are shown" in text
    assert seeds(load_tables(results, "smoke")[0]) == [10, 11, 12, 13]


def test_a_sweep_at_its_end_takes_the_place_of_a_larger_one(results, monkeypatch):
    monkeypatch.setattr(finished, "count", lambda taken: 2)
    for job in range(2):
        write_run(results, "smoke", job, "none", 32, 10 + job, 0.5)
    assert "Not run" not in draw.draw(preset_of(results, ENTRY), {}).read_text()
    assert seeds(load_tables(results, "smoke")[0]) == [10, 11]


@pytest.mark.parametrize("draw_all", [draw.draw, step_sizes.report_step_sizes])
def test_rows_of_what_was_skipped_stay(results, draw_all):
    other = ENTRY | {"name": "digits_by_class"}
    for job in range(4):
        write_run(results, "digits_by_class", job, "none", 32, 20 + job, 0.7)
    text = draw_all(preset_of(results, other), {"smoke": "its data is not there"}).read_text()
    assert "- `smoke`: its data is not there" in text
    assert seeds(load_tables(results, "smoke")[0]) == [0, 1, 2]
    assert seeds(load_tables(results, "digits_by_class")[0]) == [20, 21, 22, 23]
    if draw_all == draw.draw:
        assert set(read_table(results / "methods.csv").sweep) == {"smoke", "digits_by_class"}


def test_rows_of_what_is_no_longer_listed_go(results):
    other = ENTRY | {"name": "digits_by_class"}
    write_run(results, "digits_by_class", 0, "none", 32, 20, 0.7)
    draw.draw(preset_of(results, other), {})
    assert load_tables(results, "smoke")[0].empty
    assert set(read_table(results / "methods.csv").sweep) == {"digits_by_class"}


@pytest.mark.parametrize("shows", ["accuracy", "loss", "error", "reference"])
def test_runs_that_share_compressor_bitrate_and_seed_are_not_averaged(tmp_path, shows):
    """Else two step sizes are one method of twice as many seeds."""
    for job, (lr, seed) in enumerate([(0.1, 0), (0.1, 1), (0.5, 0), (0.5, 1)]):
        id = write_run(tmp_path, "mine", job, "none", 32, seed, 0.9, lr=lr)
        (tmp_path / "runs" / id).rename(tmp_path / "runs" / f"{id}-{lr}")
        SweepFolder(tmp_path / "sweeps" / "mine").mark(job, f"{id}-{lr}")
    for job, seed in enumerate((0, 1)):
        write_run(tmp_path, "other", job, "none", 32, seed, 0.9)
    entries = [ENTRY | {"name": name, "shows": shows} for name in ("mine", "other")]
    text = draw.draw(preset_of(tmp_path, *entries), {}).read_text()
    assert (
        "- `mine`: has 4 runs that share compressor, bitrate and seed with others, and differ in"
        in text
    )
    assert "differ in lr; sweep that under names of its own (sweep=...)" in text
    assert set(read_table(tmp_path / "runs.csv").sweep) == {"other"}
    with pytest.raises(SystemExit, match="mine: has 4 runs that share compressor"):
        draw.draw(preset_of(tmp_path, entries[0]), {})


@pytest.mark.parametrize("name", ["runs.csv", "rounds.csv.gz", "methods.csv"])
def test_a_full_disk_leaves_tables_as_they_were(results, disk_of, name):
    path = results / name
    before = path.read_bytes()
    table = pd.concat(50 * [read_table(path).assign(noise=range(len(read_table(path))))])
    with disk_of(100), pytest.raises(InputError, match=rf"{name} can not be written .*stays as it"):
        save_table(table, path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in results.iterdir() if "partial" in file.name) == []


@pytest.mark.parametrize("name", ["runs.csv", "rounds.csv.gz"])
def test_a_damaged_table_is_one_clear_error(results, name):
    whole = (results / name).read_bytes()
    (results / name).write_bytes(whole[: len(whole) // 2] + b"\xff")
    with pytest.raises(InputError, match=rf"{name} is no table of results, or damaged .*remove it"):
        load_tables(results, "smoke")


def test_the_same_table_is_the_same_bytes(results):
    path = results / "rounds.csv.gz"
    before = path.read_bytes()
    save_table(read_table(path), path)
    assert path.read_bytes() == before


@pytest.fixture
def swept(monkeypatch, tmp_path):
    """`make smoke` whose sweeps train nothing; each has the exit status that `statuses` says."""
    commands, statuses = [], {}

    def run(command, **_options):
        commands.append(command)
        name = next(each for each in command if each.startswith("sweep="))
        return type("Done", (), {"returncode": statuses.get(name.removeprefix("sweep="), 0)})

    monkeypatch.setattr(reproduce.subprocess, "run", run)
    arguments = ["reproduce.py", "--preset", "smoke", "--results-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*arguments, "--tracking", "none"])
    return commands, statuses


def test_a_sweep_that_fails_is_named_and_is_the_exit_status(results, swept, capsys):
    commands, statuses = swept
    assert reproduce.main() == 0
    statuses["smoke"] = 1
    assert reproduce.main() == 1
    assert "failed: smoke" in capsys.readouterr().err
    text = (results / "report.md").read_text()
    assert "- `smoke`: some of its runs failed; see the output" in text
    for command in commands:
        assert command[-2:] == [f"results_dir={results}", "tracking=none"]


def test_without_its_data_a_sweep_is_not_run_and_its_rows_stay(results, swept, monkeypatch):
    commands, _ = swept
    listed = [*experiments_of("smoke"), experiments_of("default")[1]]
    monkeypatch.setattr("presets._presets", lambda: {"default": [], "smoke": listed})
    monkeypatch.setattr(reproduce, "missing_datasets", lambda _: {"digits": "no digits here"})
    for job in range(4):
        write_run(results, "mnist_by_class", job, "none", 32, 20 + job, 0.7)
    assert reproduce.main() == 0
    assert [command[3:5] for command in commands] == [
        ["experiment=mnist_by_class", "sweep=mnist_by_class"]
    ]
    assert "- `smoke`: no digits here" in (results / "report.md").read_text()
    assert seeds(load_tables(results, "smoke")[0]) == [0, 1, 2]


def test_who_has_to_wait_is_told_so(tmp_path, capsys, monkeypatch):
    lock = tmp_path / "a.lock"
    with locked(lock, "waiting"):
        assert capsys.readouterr().out == ""
    asked = []

    def acquire(self, timeout=-1):
        asked.append(timeout)
        if timeout == 0:
            raise Timeout(str(lock))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with locked(lock, "waiting"):
        assert capsys.readouterr().out == "waiting\n"
    assert asked == [0, -1]


def test_a_preset_is_called_by_the_command_that_there_is():
    assert presets.command("default") == "make reproduce"
    assert presets.command("smoke") == "make smoke"
    assert presets.command("of") == "python scripts/reproduce.py --preset of"  # a word, no target
    assert presets.command("mine") == "python scripts/reproduce.py --preset mine"
