"""Convolutions by frequencies are those of the library, and no less exact."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from wzfl.cohort.fast_convolution import FastConvolution, is_faster
from wzfl.models import cnn


def relative_error(values, exact):
    return float((values - exact).norm() / exact.norm())


@pytest.mark.usefixtures("blas")
@pytest.mark.parametrize("examples", [1, 70], ids=["one", "several_blocks"])
@pytest.mark.parametrize(
    ("image", "kernel", "padding"),
    [
        ((14, 14), (5, 5), (2, 2)),
        ((16, 16), (3, 3), (1, 1)),
        ((7, 14), (3, 5), (0, 2)),  # an odd period and an even one
        ((13, 8), (5, 4), (1, 3)),
        ((1, 9), (1, 3), (0, 1)),  # no pair of frequencies along the height
        ((2, 2), (5, 5), (2, 2)),  # a kernel that is longer than the period
        ((9, 5), (7, 5), (6, 4)),
    ],
)
def test_outputs_and_gradients_are_those_of_a_direct_convolution(image, kernel, padding, examples):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, kernel, padding=padding, bias=False)
    weight = layer.weight.detach()
    x = torch.randn(examples, 3, *image)
    exact_x, exact_weight = x.double().requires_grad_(), weight.double().requires_grad_()
    exact = functional.conv2d(exact_x, exact_weight, padding=padding)
    grad = torch.randn(exact.shape)
    exact.backward(grad.double())

    convolution, input_grad = FastConvolution(layer, weight, image), torch.empty_like(x)
    assert relative_error(convolution.forward(x), exact.detach()) < 5e-7
    assert relative_error(convolution.backward(x, grad, input_grad), exact_weight.grad) < 5e-7
    assert relative_error(input_grad, exact_x.grad) < 5e-7


def test_it_serves_large_kernels_of_many_channels():
    """Of the FedAvg paper's CNN the second convolution, but for few images; nothing of a small one."""
    first, second = (
        layer for layer in cnn((1, 28, 28), 10).network if isinstance(layer, nn.Conv2d)
    )
    assert not is_faster(first, torch.empty(20, 1, 28, 28))
    assert is_faster(second, torch.empty(20, 32, 14, 14))
    assert not is_faster(second, torch.empty(1, 32, 14, 14))
    assert not is_faster(nn.Conv2d(8, 16, 5, padding=2), torch.empty(100, 8, 16, 16))


@pytest.mark.parametrize("settings", [{"stride": 2}, {"dilation": 2}, {"stride": (1, 3)}])
def test_it_takes_every_place_and_only_neighbours(settings):
    layer = nn.Conv2d(64, 64, 7, padding=3, **settings)
    assert not is_faster(layer, torch.empty(64, 64, 14, 14))


def test_a_gpu_has_its_own():
    second = nn.Conv2d(32, 64, 5, padding=2)
    assert not is_faster(second, torch.empty(20, 32, 14, 14, device="meta"))


def test_an_image_that_is_smaller_than_the_kernel_is_the_librarys_to_refuse():
    assert not is_faster(nn.Conv2d(64, 64, 7), torch.empty(64, 64, 6, 14))
