"""Step sizes: found by runs of their own, and used by the experiments that say so."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import step_sizes
from hydra import compose, initialize_config_dir
from presets import Preset, experiments_of
from test_report import write_run

from wzfl.config import conf_dir, step_size
from wzfl.reporting.summary import load_sweep
from wzfl.reporting.tuning import _loss, best_step_sizes, tuning_losses

TUNE = Path(step_sizes.__file__).parents[1] / "results" / "tune"
_MNIST_IID = [f"accuracy_mnist_iid_{batch}" for batch in (64, 600, "full")]
WITHOUT_CHOICE = ("none", "signsgd", "ef_signsgd")  # whatever bitrates are swept
TUNED = {  # others are of their own experiment alone
    "tune_mnist_by_class": ["mnist_by_class", "accuracy_mnist_by_class_600"],
    "tune_mnist_iid": ["mnist_iid", *_MNIST_IID],
    "tune_accuracy_mnist_iid": _MNIST_IID,
    "tune_cifar": [f"accuracy_cifar_iid_{batch}" for batch in (32, 100, "full")],
}


@pytest.fixture
def tuned(tmp_path):
    """Losses 1.0 and 0.5 for qsgd at 0.1 and 0.5, none for topk at 0.5, where it diverged."""
    job = 0
    for name in ("topk", "qsgd"):
        for lr, loss in ((0.1, 1.0), (0.5, 0.5)):
            diverged = name == "topk" and lr == 0.5
            accuracy = None if diverged else 0.9
            write_run(tmp_path, "tune", job, name, 1.0, job, accuracy, lr=lr, train_loss=loss)
            job += 1
    return tmp_path


def test_the_step_size_of_least_loss_is_chosen(tuned):
    losses = tuning_losses(*load_sweep(tuned, "tune"))
    assert list(losses.index) == [("qsgd", 1.0), ("topk", 1.0)]
    assert list(losses.columns) == [0.1, 0.5]
    assert losses.loc[("qsgd", 1.0)].tolist() == [1.0, 0.5]
    assert pd.isna(losses.loc[("topk", 1.0), 0.5])
    assert best_step_sizes(losses).to_dict() == {("qsgd", 1.0): 0.5, ("topk", 1.0): 0.1}


def test_where_all_diverge_there_is_none_to_choose(tuned):
    runs, rounds = load_sweep(tuned, "tune")
    losses = tuning_losses(runs.assign(diverged_in_round=2.0), rounds)
    assert losses.shape[0] == 2
    assert best_step_sizes(losses).empty


@pytest.mark.parametrize(
    ("loss", "text"), [(0.5, "0.5000"), (3.7e29, "4e+29"), (float("inf"), "inf"), (np.nan, "—")]
)
def test_losses_are_legible(loss, text):
    assert _loss(loss) == text


def test_the_report_shows_what_was_tried(tuned):
    entries = [{"name": "tune", "title": "a setting"}, {"name": "absent", "title": "another"}]
    path = step_sizes.report_step_sizes(Preset("make tune", entries, tuned), {})
    text = path.read_text()
    assert "| qsgd         | 1         | 1.0000     | **0.5000** |" in text
    assert "| topk         | 1         | **1.0000** | —          |" in text
    assert "- `absent`: has no finished run" in text
    assert len(pd.read_csv(tuned / "runs.csv")) == 4


@pytest.mark.parametrize("entry", experiments_of("tune"), ids=lambda entry: entry["name"])
def test_experiments_use_the_step_sizes_that_were_found(entry):
    """What was measured is what conf/ says, by compressor and bitrate."""
    runs, rounds = load_sweep(TUNE, entry["name"])
    if runs.empty:
        pytest.skip("no results/tune")
    found = best_step_sizes(tuning_losses(runs, rounds))
    for experiment in TUNED.get(entry["name"], [entry["experiment"]]):
        with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
            config = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
        swept = config.hydra.sweeper.params
        bitrates = {float(bitrate) for bitrate in swept.bitrate.split(",")}
        names = swept.compressor.split(",")
        for (compressor, bitrate), lr in found.items():
            if compressor in names and (bitrate in bitrates or compressor in WITHOUT_CHOICE):
                assert step_size(config.lr_of, compressor, bitrate) == lr, (experiment, compressor)
