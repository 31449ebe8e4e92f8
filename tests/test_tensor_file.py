"""Files are there as a whole or not at all; tensors in them come back as they were, or not."""

import errno

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from wzfl.replacing import replacing
from wzfl.tensor_file import load_tensors, save_tensors

TENSORS = {
    "number": torch.tensor(2.5),
    "empty": torch.zeros(3, 0),
    "half": torch.arange(7).bfloat16(),
    "truths": torch.tensor([True, False]),
}
METADATA = {"round": "3", "name": "some"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.file"


def test_a_file_takes_the_place_of_another_when_it_is_whole(path):
    path.write_text("before")
    with replacing(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(path.parent.iterdir()) == [path]


def break_off(path):
    with replacing(path) as partial:
        partial.write_text("half of")
        raise OSError(errno.ENOSPC, "no room")


def test_of_a_write_that_fails_nothing_is_left(path):
    path.write_text("before")
    with pytest.raises(OSError, match="no room"):
        break_off(path)
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_tensors_and_metadata_come_back(path):
    save_tensors(path, TENSORS, METADATA)
    tensors, metadata = load_tensors(path)
    assert metadata == METADATA
    assert set(tensors) == set(TENSORS)
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_any_bit_that_is_flipped_is_noticed(path):
    save_tensors(path, TENSORS, METADATA)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            tensors, metadata = load_tensors(path)
        except OSError:
            continue
        # safetensors pads its header with spaces, and skips what else is there.
        assert metadata == METADATA, place
        assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS), place


@pytest.mark.parametrize("metadata", [None, {}, {"digest": "0"}, METADATA])
def test_a_file_without_its_digest_is_refused(path, metadata):
    save_file(TENSORS, path, metadata)
    with pytest.raises(OSError, match="do not match its digest: damaged, or written by other code"):
        load_tensors(path)


@pytest.mark.parametrize(
    ("name", "other"),
    [("half", TENSORS["half"].half()), ("empty", torch.zeros(0, 3)), ("more", torch.ones(1))],
)
def test_names_types_and_shapes_count(path, name, other):
    save_tensors(path, TENSORS, METADATA)
    with safe_open(path, framework="pt") as file:
        described = file.metadata()
    save_file(TENSORS | {name: other}, path, described)
    with pytest.raises(OSError, match="do not match its digest"):
        load_tensors(path)


def test_an_absent_file_is_said_to_be_absent(path):
    with pytest.raises(FileNotFoundError):
        load_tensors(path)
