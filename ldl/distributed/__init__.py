"""Training on several processes: data-parallel, with the numbers of one.

    world = ldl.distributed.World()
    ldl.fit(model, data, loss, optimizer, epochs, world=world)

    $ mpiexec -n 4 python train.py

Every process, a *rank*, has the whole model and takes its rows of every batch. The gradients are
summed over the ranks once a step, so that all of them make the same update; `batch_size`, seeds and
shuffles mean what they mean to one process, and what is drawn for a row is the same whichever rank
has it. So N ranks give the numbers of one, but for the order in which a sum is rounded.

MPI moves the data between processors' memories (extra `mpi`), NCCL between GPUs.
"""

from ldl.distributed.world import RanksDifferError, World

__all__ = ["RanksDifferError", "World"]
