import json

import benchmark
import benchmark_codecs
import benchmark_rounds
import pandas as pd


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
    pd.DataFrame(rows).to_csv(tmp_path / "rounds.csv", index=False)
    text = benchmark.summary(tmp_path)
    assert "| FedSGD, MLP: 20 clients, one gradient each on 64 examples | 20 (15-25) |" in text
    assert "| 40 (40-40) |" in text
    assert " 0.5 |" in text


def test_a_system_that_fails_is_left_out(capsys):
    assert benchmark.run(["python3", "-c", "raise SystemExit('no such thing')"]) == []
    assert "left out: exit status 1: no such thing" in capsys.readouterr().out
