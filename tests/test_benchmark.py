import itertools
import json
import os
from argparse import Namespace

import benchmark
import benchmark_codecs
import benchmark_gpu
import benchmark_growth
import benchmark_memory
import benchmark_rounds
import benchmark_tables
import pandas as pd
import pytest
import torch

from wzfl.environment import processor
from wzfl.products import library


def printed_objects(printed):
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def test_rounds_are_timed(call):
    options = ["--compressors", "none", "qsgd", "--rounds", "2", "--warmup", "1", "--threads", "1"]
    status, printed = call(benchmark_rounds, "w2_mlp", *options)
    assert status == 0
    none, qsgd = printed_objects(printed)
    assert (none["compressor"], qsgd["compressor"]) == ("none", "qsgd")
    for done in (none, qsgd):
        assert len(done["seconds"]) == 2
        assert min(done["seconds"]) > 0
        assert done["peak_memory_bytes"] > 2**20


def test_evaluations_are_timed_apart(call):
    options = ["--rounds", "2", "--warmup", "1", "--threads", "1"]
    status, printed = call(benchmark_rounds, "w2_mlp", *options, "--evaluate")
    assert status == 0
    (done,) = printed_objects(printed)
    assert len(done["evaluation_seconds"]) == len(done["seconds"]) == 2
    assert min(done["evaluation_seconds"]) > 0


def test_the_summary_compares_evaluations_with_rounds(monkeypatch, tmp_path):
    done = {"seconds": [0.02, 0.03, 0.1], "evaluation_seconds": [0.06, 0.045]}
    monkeypatch.setattr(benchmark, "run", lambda command: [done])
    rows = itertools.chain(*benchmark.evaluation(Namespace(threads=1, repetitions=1)))
    table = pd.DataFrame(rows).assign(commit="a1b2", machine="a CPU")
    table.to_csv(tmp_path / "evaluation.csv", index=False)
    title, frame = benchmark_tables.evaluation_table(table)
    assert title.startswith("An evaluation on 10 000 images")
    assert frame.work.tolist() == list(benchmark_tables.DESCRIPTIONS.values())
    assert frame[["round ms", "evaluation ms", "evaluation / round"]].values.tolist() == 4 * [
        [30, 52.5, 1.75]
    ]
    assert "evaluation / round" in benchmark_tables.summary(tmp_path)


def test_codecs_are_timed(call):
    options = ["--dims", "1000", "--clients", "2", "--repetitions", "2", "--threads", "1"]
    status, printed = call(benchmark_codecs, *options, "--compressors", "eden")
    assert status == 0
    copy, eden = printed_objects(printed)
    assert len(copy["encode"]) == len(eden["encode"]) == len(eden["decode"]) == 2
    assert eden["bits_per_coordinate"] == 8 * (250 + 4 + 10) / 1000


def test_the_summary_has_medians_and_ratios(tmp_path):
    times = {"wzfl": [0.01, 0.02, 0.03], "pfl": [0.04, 0.04, 0.04]}
    rows = [
        {"workload": "w2_mlp", "system": system, "seconds": each}
        for system, seconds in times.items()
        for each in seconds
    ]
    pd.DataFrame(rows).assign(commit="a1b2", machine="a CPU").to_csv(
        tmp_path / "rounds.csv", index=False
    )
    text = benchmark_tables.summary(tmp_path)
    assert "| FedSGD, MLP: 20 clients, one gradient each on 64 examples | 20 (15-25) |" in text
    assert "| 40 (40-40) |" in text
    assert "\na CPU, commit a1b2.\n" in text
    assert " 0.5 |" in text


def test_workloads_are_in_order_whatever_the_order_of_the_rows(tmp_path):
    """One says `the same` of the one before it."""
    rows = [
        {"workload": workload, "system": "wzfl", "compressor": compressor, "seconds": 0.01}
        for workload in sorted(benchmark_tables.DESCRIPTIONS)
        for compressor in benchmark.ALL
    ]
    table = pd.DataFrame(rows).assign(commit="a1b2", machine="a CPU")
    for part in ("rounds", "compressed"):
        table.to_csv(tmp_path / f"{part}.csv", index=False)
    text = benchmark_tables.summary(tmp_path)
    places = [text.index(meaning) for meaning in benchmark_tables.DESCRIPTIONS.values()]
    assert places == sorted(places)
    assert text.index("FedSGD, MLP, ratio") < text.index("FedSGD, CNN, ms")


def test_the_summary_has_a_coordinate_s_time_by_bitrate(tmp_path):
    times = {("qsgd", 2): (2e-6, 1e-6), ("qsgd", 4): (3e-6, 5e-6), ("signsgd", 1): (1e-6, 7e-6)}
    rows = [
        {
            "dim": 1000,
            "clients": 2,
            "compressor": compressor,
            "bitrate": bitrate,
            "direction": direction,
            "seconds": each,
        }
        for (compressor, bitrate), seconds in times.items()
        for direction, each in zip(("encode", "decode"), seconds, strict=True)
    ]
    pd.DataFrame(rows).assign(commit="a1b2", machine="a CPU").to_csv(
        tmp_path / "rates.csv", index=False
    )
    text = benchmark_tables.summary(tmp_path)
    assert "one of 1000 coordinates" in text
    assert "| compressor   | 1         | 2         | 4         |" in text
    assert "| qsgd         |           | 1.0 / 0.5 | 1.5 / 2.5 |" in text
    assert "| signsgd      | 0.5 / 3.5 |           |           |" in text


def test_bitrates_are_measured_of_what_takes_them(monkeypatch):
    commands = []
    monkeypatch.setattr(benchmark, "run", lambda command: commands.append(command) or [])
    assert not any(benchmark.rates(None))
    named = {
        command[-1]: command[command.index("--compressors") + 1 : command.index("--dims")]
        for command in commands
    }
    assert list(named) == [str(rate) for rate in benchmark.RATES]
    assert "signsgd" in named["1"]
    assert "signsgd" not in named["2"]
    assert "qsgd_elias" in named["8"]
    assert "qsgd_elias" not in named["16"]


def test_the_code_of_eden_s_authors_is_timed_where_there_is_a_clone(monkeypatch, tmp_path):
    """Here one whose codec halves what it is given, and doubles it again."""
    monkeypatch.setattr(benchmark, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(benchmark, "DIMS", {64: 3})
    folder = tmp_path / "eden" / "torch"
    folder.mkdir(parents=True)
    (folder / "eden.py").write_text(
        "class Codec:\n"
        "    def forward(self, update):\n"
        "        return update / 2, 2\n"
        "    def backward(self, encoded, factor):\n"
        "        return factor * encoded, []\n"
        "def eden_builder(bits):\n"
        "    return Codec()\n"
    )
    command = [*benchmark.script("peers/run_eden"), str(tmp_path / "eden"), "--dims", "64"]
    (done,) = benchmark.run([*command, "--repetitions", "2"])
    assert len(done["encode"]) == len(done["decode"]) == 2
    assert done["relative_error"] == 0
    table = pd.DataFrame(itertools.chain(*benchmark.codecs(Namespace(threads=1))))
    theirs = table[table.version != ""]
    assert set(theirs.compressor) == {"eden of its authors"}
    assert len(theirs) == 2 * 5
    table.assign(commit="a1b2", machine="a CPU").to_csv(tmp_path / "codecs.csv", index=False)
    text = benchmark_tables.summary(tmp_path)
    assert "| eden of its authors |" in text
    assert text.index("| copy ") < text.index("| topk ") < text.index("| eden of its authors |")


def test_a_part_that_measures_nothing_keeps_what_was_measured_before(call, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "run", lambda command: [])
    (tmp_path / "benchmark").mkdir()
    before = tmp_path / "benchmark" / "memory.csv"
    before.write_text(
        "precision,capacity,seed,test_accuracy,side_information_error,commit,machine\n"
        "int8,,0,0.8,1.2,abc,a CPU\n"
    )
    status, printed = call(benchmark, "--parts", "memory", "growth", "--results-dir", str(tmp_path))
    assert status == 0
    assert f"memory: nothing was measured; what {before.parent} has of it stays" in printed
    assert "growth: nothing was measured" in printed
    assert "int8" in (tmp_path / "benchmark" / "benchmark.md").read_text()


def test_a_stop_loses_nothing(monkeypatch, tmp_path):
    """Neither what was measured before, nor what has been measured since."""
    done = {"precision": "int8", "capacity": "", "seed": 0, "side_information_error": 1.2}
    accuracies = iter([0.8, 0.7])

    def measured(command):
        if (accuracy := next(accuracies, None)) is None:
            raise KeyboardInterrupt
        return [done | {"test_accuracy": accuracy}]

    monkeypatch.setattr(benchmark, "run", measured)
    folder = tmp_path / "benchmark"
    folder.mkdir()
    (folder / "memory.csv").write_text("before")
    arguments = ["benchmark.py", "--parts", "memory", "--threads", "1", "--results-dir"]
    monkeypatch.setattr("sys.argv", [*arguments, str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        benchmark.main()
    assert (folder / "memory.csv").read_text() == "before"
    unfinished = pd.read_csv(folder / "memory.unfinished.csv")
    assert unfinished.test_accuracy.tolist() == [0.8, 0.7]
    assert unfinished.machine.notna().all()


def test_rows_tell_on_which_machine_they_were_measured(call, monkeypatch, tmp_path):
    """Parts of one folder may be of several."""
    done = {"precision": "int8", "capacity": "", "seed": 0, "test_accuracy": 0.8}
    monkeypatch.setattr(benchmark, "run", lambda command: [done | {"side_information_error": 1.2}])
    status, _printed = call(benchmark, "--parts", "memory", "--results-dir", str(tmp_path))
    assert status == 0
    (machine,) = set(pd.read_csv(tmp_path / "benchmark" / "memory.csv").machine)
    assert machine.startswith(f"{processor()}, {os.cpu_count()} cores, Python ")
    assert machine.endswith(f"products of matrices by {library()}")
    assert f"\n{machine}, commit " in (tmp_path / "benchmark" / "benchmark.md").read_text()


def test_a_system_that_fails_is_left_out(capsys):
    assert benchmark.run(["python3", "-c", "raise SystemExit('no such thing')"]) == []
    assert "left out: exit status 1: no such thing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "point",
    [
        ["clients", "3", "--compressor", "eden"],
        ["dimension", "1000"],
        ["population", "30", "--precision", "int8", "--capacity", "25"],
    ],
    ids=lambda point: point[0],
)
def test_growth_is_measured(call, point):
    status, printed = call(benchmark_growth, *point, "--repetitions", "2", "--threads", "1")
    assert status == 0
    (done,) = printed_objects(printed)
    assert 2 <= len(done["seconds"]) <= 20
    assert done["peak_memory_bytes"] > 2**20


@pytest.mark.parametrize(
    ("peaks", "steps"),
    [
        ([5], 3),
        ([5, 9, 9.05], 4),
        ([5, 9, 9, 12, 12, 12, 12], 6),
        ([1.02**step for step in range(30)], 20),
    ],
    ids=["at once", "after the first step", "after a late rise", "never"],
)
def test_a_process_is_timed_once_it_has_its_memory(monkeypatch, peaks, steps):
    """`peaks` before and after each step; the last one stays."""
    told, numbers = list(peaks), []
    monkeypatch.setattr(
        benchmark_growth, "peak_memory", lambda: told.pop(0) if len(told) > 1 else told[0]
    )
    assert benchmark_growth.settle(numbers.append) == steps
    assert numbers == list(range(1, steps + 1))


def test_what_takes_long_is_repeated_less(monkeypatch):
    clock, numbers = iter(range(100)), []
    monkeypatch.setattr(benchmark_growth, "settle", lambda step: 3)
    monkeypatch.setattr(benchmark_growth.time, "perf_counter", lambda: next(clock) / 8)
    seconds = benchmark_growth.timed(Namespace(repetitions=2), numbers.append)
    assert seconds == [1 / 8] * 8
    assert numbers == list(range(4, 12))


def test_accuracy_with_little_memory_is_measured(call):
    status, printed = call(
        benchmark_memory, "--dataset", "digits", "--rounds", "4", "--capacity", "10"
    )
    assert status == 0
    (done,) = printed_objects(printed)
    assert 0 < done["test_accuracy"] < 1


def test_growth_has_exponents_and_a_figure(tmp_path):
    rows = [
        {
            "what": what,
            "size": round(10**power),
            "compressor": "eden",
            "precision": "float32",
            "capacity": None,
            "seconds": 1e-6 * 10 ** (1.05 * power),
            "peak_memory_bytes": 2**30,
            "commit": "a1b2",
            "machine": "a CPU",
        }
        for what in ("clients", "dimension", "population")
        for power in (7, 7.5, 8)
    ]
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "growth.csv", index=False)
    text = benchmark_tables.summary(tmp_path)
    assert "| dimension    | 100000000 | eden         |" in text
    assert "1.05" in text
    _left, middle, right = benchmark_tables.growth_figure(table).axes
    assert middle.get_legend_handles_labels()[1] == ["eden, exponent 1.05"]
    assert right.get_ylabel() == "peak memory, GiB"


def test_a_gpu_is_asked_for_where_there_is_none(call, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, printed = call(benchmark_gpu)
    assert status != 0
    assert "torch sees no CUDA device; `make benchmark` is for a CPU" in printed


def test_the_summary_of_a_gpu_has_copies_codecs_and_rounds():
    times = {"seconds": 0.002, "fastest": 0.001, "slowest": 0.004, "device_seconds": 0.0015}
    coded = {"compressor": "eden", "bitrate": 2, "clients": 8, "dim": 2**24, "bytes": 10**9}
    rows = [
        {"what": "copy to the host", "bytes": 10**8},
        {"what": "encode"} | coded,
        {"what": "w2_mlp", "compressor": "none", "bitrate": 2},
    ]
    table = pd.DataFrame([row | times for row in rows])
    text = benchmark_gpu.summary(table, torch.device("cpu"))
    assert "| copy to the host | 2 (1-4) | 50" in text
    assert (
        "| encode | eden         | 2         | 8         | 16777216 | 2 (1-4) | 500    | 1.5 ms"
        in text
    )
    assert "| none         | 2 (1-4) | 500                 | 1.5 ms" in text
