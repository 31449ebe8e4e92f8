"""No value of conf/ is taken that its target can not use."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from wzfl import InputError
from wzfl.config import build, conf_dir, load_group, settings_of
from wzfl.config_values import check_command

GROUPS = ("dataset", "partition", "model", "client", "channel", "tracking", "side_information")
CHOICES = [
    (group, path.stem)
    for group in (*GROUPS, "compressor", "server")
    for path in sorted((conf_dir() / group).glob("*.yaml"))
]
COMMAND = {"rounds": 1, "seed": 0, "threads": None, "lr_of": {"default": 0.1}, "sweep": "mine"}


def places(config, key=""):
    """The keys of all values, those in it too."""
    for name in config:
        inside = f"{key}.{name}" if key else str(name)
        node = config._get_node(name)
        if isinstance(node, DictConfig):
            yield from places(node, inside)
        elif name not in ("_target_", "_partial_"):
            yield inside


def described(group, name):
    if (group, name) == ("dataset", "image_folder"):  # whose folder the user names
        return OmegaConf.create({"dataset": load_group("dataset", "cifar10_jpeg")}).dataset
    return load_group(group, name)


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_value_of_every_choice_has_a_type_that_it_is_held_to(group, name):
    choice = described(group, name)
    for key in places(choice):
        if (group, key) == ("server", "aggregation"):  # taken by no constructor
            continue
        for wrong in ({}, [["nonsense"]]):
            config = choice.copy()
            OmegaConf.set_struct(config, False)
            OmegaConf.update(config, key, wrong, merge=False)
            built = config.optimizer if group == "server" else config
            with pytest.raises(InputError, match=rf"{key} must be .*got .*; see conf/"):
                build(
                    built, **({"input_shape": (1, 8, 8), "classes": 2} if group == "model" else {})
                )


@pytest.mark.parametrize("wrong", ["1", 1.0, True, float("nan"), [1], {}])
def test_numbers_are_numbers(wrong):
    config = OmegaConf.create({"client": load_group("client", "fedsgd")})
    config.client.batch_size = wrong
    with pytest.raises(InputError, match=r"^client.batch_size must be a valid integer; got "):
        build(config.client)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0.9], "have more items"),
        ([0.9, 0.99, 0.999], "have at most 2 items"),
        (0.9, "be a list"),
    ],
)
def test_pairs_are_pairs(wrong, message):
    config = OmegaConf.create({"server": load_group("server", "adam")})
    config.server.optimizer.betas = wrong
    with pytest.raises(InputError, match=rf"^server.optimizer.betas must {message}.*; got "):
        build(config.server.optimizer)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("rounds", 0),
        ("rounds", "many"),
        ("seed", -1),
        ("seed", 2**63),
        ("threads", 0),
        ("threads", 10**9),
        ("lr_of", 0.1),
        ("sweep", None),
    ],
)
def test_what_belongs_to_no_group_is_held_to_what_a_command_takes(key, wrong):
    check_command(OmegaConf.create(COMMAND), "train", COMMAND)
    config = OmegaConf.create({**COMMAND, key: wrong})
    with pytest.raises(InputError, match=rf"^{key} must be .*; got .*; see conf/train.yaml"):
        check_command(config, "train", COMMAND)


@pytest.mark.parametrize("command", ["train", "record_updates", "rate_distortion"])
def test_the_settings_of_a_command_are_those_that_hydra_composes(command):
    with initialize_config_dir(str(conf_dir().absolute()), version_base="1.3"):
        assert set(compose(command)) == settings_of(command) - {"experiment"}


@pytest.mark.parametrize("key", ["bitrat", "record_round"])
def test_a_setting_that_a_command_does_not_have_is_refused(key):
    config = OmegaConf.create({"bitrate": 2, "record_rounds": [5], key: 3})
    with pytest.raises(InputError, match=rf"^no such setting {key}; did you mean {key}[es]\?$"):
        check_command(config, "record_updates", settings_of("record_updates"))


@pytest.mark.parametrize(
    ("group", "name", "key", "value"),
    [
        ("partition", "two_classes", "classes_per_client", 2),
        ("side_information", "ema", "step", 0.3),
        ("side_information", "measured", "sketch", 512),
        ("side_information", "linear", "sketch", 512),
        ("side_information", "oracle", "sketch", 10**9),  # all of any model
        ("side_information", "peers", "waves", 2),
        ("model", "mlp", "hidden", [200, 200]),
    ],
)
def test_a_choice_has_the_value_that_makes_it(group, name, key, value):
    assert load_group(group, name)[key] == value


def test_checkpoints_are_as_far_apart_as_the_readme_says():
    every = OmegaConf.load(conf_dir() / "train.yaml").checkpoint_every
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert f"every {every} rounds (`checkpoint_every`)" in readme
