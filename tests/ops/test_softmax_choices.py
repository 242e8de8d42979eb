"""softmax_choices: against the definition in float64, on a kernel and without one."""

import re

import pytest
import torch

from mfgan.ops import library, reference_softmax_choices, softmax_choices

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Vectors of the kernel are pairs of 4 to 16 numbers: whole ones, parts of one, and rows of one item.
COLUMNS = [1, 7, 32, 67, 3416]

needs_kernel = pytest.mark.skipif(
    "cpu" not in library.devices("softmax_choices"), reason="the CPU library is not built"
)


def drawn(rows, columns, dtype=torch.float32):
    draws = torch.Generator().manual_seed(columns)
    logits = (4 * torch.randn(rows, columns, generator=draws)).to(dtype)
    return logits, torch.randint(0, columns, (rows, 3), generator=draws)


def by_definition(logits, choices):
    log_probs = logits.double().log_softmax(1)
    return log_probs.exp(), log_probs.gather(1, choices), -(log_probs.exp() * log_probs).sum(1)


def reference(logits, choices):
    return reference_softmax_choices.softmax_choices(logits, choices, entropy=True)


def entry(logits, choices):
    return softmax_choices(logits, choices, entropy=True)


@pytest.mark.parametrize("function", [entry, reference])
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_agrees_with_the_definition(dtype, columns, function):
    logits, choices = drawn(5, columns, dtype)
    probs, log_probs, entropy = by_definition(logits, choices)
    found, found_entropy = function(logits, choices)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert found.dtype == found_entropy.dtype == wide
    near = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 0, "atol": 2e-5}
    torch.testing.assert_close(found.double(), log_probs, **near)
    torch.testing.assert_close(found_entropy.double(), entropy, **near)
    # Rounded to nearest, of a number that is exact to float32.
    step = 0.5001 * torch.finfo(dtype).eps if dtype.itemsize == 2 else near["atol"]
    tiny = torch.finfo(dtype).tiny
    torch.testing.assert_close(logits.double(), probs, rtol=step, atol=tiny)


@pytest.mark.parametrize("function", [entry, reference])
def test_what_cannot_be_has_no_share(function):
    logits = torch.tensor([[0.0, -torch.inf, 1.0], [-1e4, 3.0, -1e4], [5.0, -torch.inf, -200.0]])
    choices = torch.tensor([[0], [0], [2]])
    log_probs, entropy = function(logits, choices)
    p = 1 / (1 + torch.tensor(1.0).exp())
    torch.testing.assert_close(logits, torch.tensor([[p, 0, 1 - p], [0, 1, 0], [1, 0, 0]]))
    # Exact though the probability itself is none.
    torch.testing.assert_close(log_probs[:, 0], torch.tensor([p.log(), -10003.0, -205.0]))
    spread = -(p * p.log() + (1 - p) * (1 - p).log())
    torch.testing.assert_close(entropy, torch.tensor([spread, 0, 0]))


@pytest.mark.parametrize("function", [entry, reference])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("place", [0, 66])
def test_a_logit_that_is_no_number_is_not_hidden(dtype, place, function):
    logits, choices = drawn(2, 67, dtype)
    logits[0, place] = torch.nan
    log_probs, entropy = function(logits, choices)
    assert logits[0].isnan().all()
    assert log_probs[0].isnan().all()
    assert entropy[0].isnan()
    assert logits[1].isfinite().all()
    assert log_probs[1].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_overflows_wherever_the_largest_is(dtype):
    logits = torch.zeros(67, 67, dtype=dtype).fill_diagonal_(300)
    log_probs, _ = softmax_choices(logits, torch.tensor([[0]]).expand(67, 1))
    torch.testing.assert_close(logits, torch.eye(67, dtype=dtype))
    wanted = torch.full((67, 1), -300.0, dtype=log_probs.dtype)
    wanted[0] = 0
    torch.testing.assert_close(log_probs, wanted)


def test_entropy_only_where_it_is_wanted():
    assert softmax_choices(*drawn(2, 5))[1] is None
    logits, choices = drawn(2, 5)
    assert reference_softmax_choices.softmax_choices(logits, choices, entropy=False)[1] is None


def test_columns_beside_the_logits_are_left_alone():
    logits, choices = drawn(4, 40)
    around = logits.clone()
    softmax_choices(around[:, 3:36], choices.clamp_max(32))
    torch.testing.assert_close(around[:, 3:36], logits[:, 3:36].softmax(1))
    for beside in (slice(0, 3), slice(36, 40)):
        assert torch.equal(around[:, beside], logits[:, beside])


def test_nothing_of_no_rows_and_of_no_choices():
    logits, choices = drawn(3, 8)
    assert softmax_choices(logits[:0], choices[:0])[0].shape == (0, 3)
    wanted = logits.softmax(1)
    assert softmax_choices(logits, choices[:, :0])[0].shape == (3, 0)
    torch.testing.assert_close(logits, wanted)


@needs_kernel
def test_threads_change_nothing():
    made = []
    threads = torch.get_num_threads()
    for number in (1, 2):
        torch.set_num_threads(number)
        logits, choices = drawn(70, 3416, torch.bfloat16)
        made.append((logits, *entry(logits, choices)))
    torch.set_num_threads(threads)
    for one, two in zip(*made, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("logits", "choices", "says"),
    [
        ((3,), (3, 1), "logits must be (num_rows, num_columns) with a column, got (3,)"),
        ((3, 0), (3, 1), "logits must be (num_rows, num_columns) with a column, got (3, 0)"),
        ((3, 4), (2, 1), "choices must be (3, num_choices), got (2, 1)"),
        ((3, 4), (3,), "choices must be (3, num_choices), got (3,)"),
    ],
)
def test_wrong_shapes(logits, choices, says):
    with pytest.raises(ValueError, match=re.escape(f"softmax_choices: {says}")):
        softmax_choices(torch.zeros(logits), torch.zeros(choices, dtype=torch.int64))


@pytest.mark.parametrize("column", [-1, 4])
def test_wrong_columns(column):
    says = f"softmax_choices: choices must be from 0 to 3, got {column}"
    with pytest.raises(ValueError, match=says):
        softmax_choices(torch.zeros(2, 4), torch.tensor([[1], [column]]))


def test_wrong_dtypes():
    with pytest.raises(TypeError, match="logits must be float32"):
        softmax_choices(torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(TypeError, match="choices must be int64"):
        softmax_choices(torch.zeros(2, 4), torch.zeros(2, 1))


@needs_kernel
def test_opcheck():
    torch.library.opcheck(torch.ops.mfgan.softmax_choices.default, drawn(3, 9, torch.bfloat16))
