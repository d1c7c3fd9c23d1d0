"""Shards: data sets of which each process has a part."""

from __future__ import annotations

from ldl.data.batching import Arrays


class Shard(Arrays):
    """This process's own samples of a data set of which no process has all.

        part = np.load(f"part-{world.rank}.npy", mmap_mode="r")
        ldl.fit(model, ldl.data.Shard(part), loss, optimizer, epochs, world=world)

    It takes what `Arrays` takes. A batch of `batch_size` samples consists of some of every rank's,
    in proportion to how many each has, and about as many: all ranks come to their ends together.
    Samples are shuffled within each shard alone, so that the batches are not those of one process
    with all samples, nor those of another number of ranks; figures are those of all samples.
    """

    is_shard = True
