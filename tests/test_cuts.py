"""Batches' rows, and which of them are whose."""

from __future__ import annotations

import pytest

from ldl.data.cuts import Cuts


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 101])
def test_the_ranks_rows_are_the_batch_once(rows: int, ranks: int) -> None:
    whole, parts = Cuts(rows, 16), [Cuts(rows, 16, rank, ranks) for rank in range(ranks)]
    for i, (cut, share) in enumerate(whole):
        assert share == (0, cut.stop - cut.start, cut.stop - cut.start)
        taken = [part[i] for part in parts]
        found = [r for rows, own in taken for r in range(rows.start, rows.stop) if own.here]
        assert found == [*range(cut.start, cut.stop)]
        assert [own.first for _, own in taken] == [rows.start - cut.start for rows, _ in taken]
        assert all(rows.stop > rows.start for rows, _ in taken), "all ranks have a row to work on"
    assert len(whole) == len(parts[-1]) == -(-rows // 16)


@pytest.mark.parametrize("counts", [[50, 50], [1, 99], [3, 40, 58], [16, 1, 1]])
def test_shards_come_to_their_ends_together(counts: list[int]) -> None:
    shards = [Cuts(n, 16, rank, len(counts), counts) for rank, n in enumerate(counts)]
    assert len({len(cuts) for cuts in shards}) == 1
    for cuts, count in zip(shards, counts, strict=True):
        own = [r for rows, share in cuts for r in range(rows.start, rows.stop) if share.here]
        assert own == [*range(count)]
    for shares in zip(*([cut.share for cut in cuts] for cuts in shards), strict=True):
        assert {share.whole for share in shares} == {sum(share.here for share in shares)}
        assert abs(shares[0].whole - sum(counts) / len(shards[0])) <= len(counts)
        assert [s.first for s in shares] == [
            sum(t.here for t in shares[:i]) for i, s in enumerate(shares)
        ]
