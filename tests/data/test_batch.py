"""Packed batches: what they hold, how they move, what they refuse."""

import numpy as np
import pytest
import torch

from mfgan.data.batch import JaggedBatch
from mfgan.errors import MfganError


def test_sequences_are_cut_to_their_tail_and_laid_end_to_end():
    batch = JaggedBatch.from_sequences(
        [[4, 3, 2, 1], np.array([], np.int32), [7]],
        targets=[[3, 2, 1, 9], [], [0]],
        timestamps=[[10, 20, 30, 40], [], [5]],
        users=[5, 6, 7],
        max_len=3,
    )
    assert batch.items.tolist() == [3, 2, 1, 7]
    assert batch.targets.tolist() == [2, 1, 9, 0]
    assert batch.timestamps.tolist() == [20, 30, 40, 5]
    assert batch.positions.tolist() == [0, 1, 2, 0]
    assert batch.offsets.tolist() == batch.cu_seqlens.tolist() == [0, 3, 3, 4]
    assert batch.users.tolist() == [5, 6, 7]
    assert (batch.num_sessions, batch.total_tokens, batch.max_seqlen) == (3, 4, 3)
    assert (batch.items.dtype, batch.cu_seqlens.dtype) == (torch.int64, torch.int32)


def test_no_sessions_and_only_empty_sessions_are_legal():
    nothing = JaggedBatch.from_sequences([], max_len=4)
    assert (nothing.num_sessions, nothing.total_tokens, nothing.max_seqlen) == (0, 0, 0)
    assert nothing.last_tokens().tolist() == []
    empty = JaggedBatch.from_sequences([[], []], max_len=4)
    assert (empty.num_sessions, empty.total_tokens) == (2, 0)
    assert empty.users.tolist() == [-1, -1]
    assert empty.targets is None


def test_last_tokens_end_each_session_and_an_empty_one_has_none():
    batch = JaggedBatch.from_sequences([[1, 2], [3]], max_len=9)
    assert batch.last_tokens().tolist() == [1, 2]
    with pytest.raises(MfganError, match="last_tokens: every session must hold a token, session 1"):
        JaggedBatch.from_sequences([[1], []], max_len=9).last_tokens()


def test_moving_leaves_offsets_on_the_host():
    batch = JaggedBatch.from_sequences([[1, 2], [3]], targets=[[2, 3], [4]], max_len=9)
    moved = batch.to("meta")
    assert moved.items.device.type == moved.targets.device.type == "meta"
    assert moved.cu_seqlens.device.type == moved.users.device.type == "meta"
    assert moved.offsets is batch.offsets
    assert moved.timestamps is None
    assert moved.max_seqlen == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": torch.zeros(3, dtype=torch.int32)}, "items must be torch.int64"),
        ({"positions": torch.zeros(2, dtype=torch.int64)}, r"positions must be .* shape \(3,\)"),
        ({"cu_seqlens": torch.zeros(3, dtype=torch.int64)}, "cu_seqlens must be torch.int32"),
        ({"users": torch.zeros(3, dtype=torch.int64)}, r"users must be .* shape \(2,\)"),
        ({"targets": torch.zeros(3)}, "targets must be torch.int64"),
        ({"timestamps": torch.zeros((3, 1), dtype=torch.int64)}, "timestamps must be"),
        ({"offsets": torch.zeros(3, dtype=torch.int64, device="meta")}, "must be on the host"),
    ],
)
def test_parts_of_another_form_are_refused(change, message):
    parts = {
        "items": torch.tensor([1, 2, 3]),
        "cu_seqlens": torch.tensor([0, 2, 3], dtype=torch.int32),
        "offsets": torch.tensor([0, 2, 3]),
        "max_seqlen": 2,
        "positions": torch.tensor([0, 1, 0]),
        "users": torch.tensor([0, 1]),
    }
    JaggedBatch(**parts)
    with pytest.raises(MfganError, match=message):
        JaggedBatch(**(parts | change))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_len": 0}, "max_len must be at least 1, got 0"),
        ({"max_len": 3, "targets": [[1]]}, "targets must be as long as the sequences"),
        ({"max_len": 3, "timestamps": [[1, 2], [1]]}, "timestamps must be as long"),
        ({"max_len": 3, "users": [1]}, "users must be"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(MfganError, match=message):
        JaggedBatch.from_sequences([[1, 2], [3, 4]], **arguments)


def test_what_is_cut_off_is_known_as_earlier():
    batch = JaggedBatch.from_sequences([[4, 3, 1, 2], [5], [6, 7, 8]], max_len=2)
    assert batch.items.tolist() == [1, 2, 5, 7, 8]
    assert batch.earlier.tolist() == [4, 3, 6]
    assert batch.earlier_offsets.tolist() == [0, 2, 2, 3]
    assert JaggedBatch.from_sequences([[1, 2], [5]], max_len=2).earlier is None
