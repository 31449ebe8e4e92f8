"""Creates a saved view of the project in W&B: accuracy and loss against bits, errors by round.

    python scripts/wandb_workspace.py --entity NAME [--project wzfl]

Needs an account (`wandb login`) and wandb-workspaces, which `make wandb-workspace ENTITY=NAME` installs.
Shown is what has been uploaded, runs of the same compressor and bitrate as one line. Each call makes a
new view.
"""

from typing import Any

import wandb
from run_command import argument_parser, run_command

from wzfl.errors import InputError

_BITS, _ROUND = "total_uplink_bits", "round"
# Title, metric, what it is drawn against, and whether the metric's axis is logarithmic.
_LINES = (
    ("test accuracy against uplink bits", "test_accuracy", _BITS, False),
    ("training loss against uplink bits", "train_loss", _BITS, True),
    ("error of updates by round", "nmse", _ROUND, True),
    ("error of side information by round", "side_information_error", _ROUND, True),
    ("decode failures by round", "decode_failures", _ROUND, False),
)


def workspace(entity: str, project: str) -> Any:
    """The view, as wandb-workspaces describes it; nothing is sent.

    Raises:
        InputError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as views
    except ImportError as error:
        raise InputError(
            "wandb-workspaces is not installed; `make wandb-workspace ENTITY=NAME` or"
            " pip install -e '.[dashboards]' installs it"
        ) from error
    lines = [
        panels.LinePlot(title=title, x=x, y=[metric], log_x=x == _BITS, log_y=logarithmic)
        for title, metric, x, logarithmic in _LINES
    ]
    bits = panels.BarPlot(
        title="bits per coordinate", metrics=[panels.SummaryMetric("bits_per_coordinate")]
    )
    return views.Workspace(
        entity=entity,
        project=project,
        name="Compressors by uplink bits",
        sections=[views.Section("Compressors", panels=[*lines, bits], is_open=True)],
        settings=views.WorkspaceSettings(max_runs=100),
        runset_settings=views.RunsetSettings(
            filters="JobType = 'train'",  # not the runs that hold reports
            groupby=[views.Config("names.compressor"), views.Config("bitrate")],
        ),
    )


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--entity", required=True, help="user or team whose project it is")
    parser.add_argument("--project", default="wzfl", help="name of the project")
    asked = parser.parse_args()
    view = workspace(asked.entity, asked.project)
    try:
        wandb.login()
        view.save()
    except (wandb.Error, ValueError) as error:
        raise InputError(
            f"no view can be made in {asked.entity}/{asked.project} ({error}); it needs an account, and"
            " runs there: `wandb login`, then `make wandb-sync`"
        ) from error
    print(view.url)


if __name__ == "__main__":
    run_command(main)
