import pytest

from mfgan.training.chunks import even_chunks


@pytest.mark.parametrize(
    ("num_rows", "most", "lengths"),
    [
        (0, 5, []),
        (3, 5, [3]),
        (10, 5, [5, 5]),
        (11, 5, [4, 4, 3]),
        (3895, 777, [650] * 5 + [645]),
        (3, 0, [1, 1, 1]),
    ],
)
def test_rows_are_dealt_evenly_to_as_few_chunks_as_hold_them(num_rows, most, lengths):
    chunks = even_chunks(num_rows, most)
    assert [chunk.stop - chunk.start for chunk in chunks] == lengths
    assert [row for chunk in chunks for row in range(num_rows)[chunk]] == list(range(num_rows))
