"""How a step becomes a program, on any backend.

1. **Trace.** `dryrun` calls the step once on copies of its modules whose arrays are `traced` ones.
   They behave as NumPy's (`views`, `functions`, `arrangements`, `places` that arrays name), lie as
   theirs would (`shapes`), hold no numbers, and note what is done as `operations`: each `Op` reads
   and writes memory, `Value`s, through `Ref`s, views of it. `backend` is what layers find as theirs
   meanwhile. A second dry run must note the same, and what modules hold and their `code` names, all
   `holdings`, each `watched`, must stay the `same`, and the `states` of dice too (arrays aside:
   `facts`): a step that counts or branches does not.
2. **Plan.** `plan` leaves out what no result needs, by `copies` what nobody could tell from its
   source, and by `constants` what is the same every time. `fuse` gathers into `loops` what goes
   over arrays of one shape, element by element or row by row (without a compiler, only `flat` ones;
   what stays alone is a call of NumPy's or CuPy's, but for `select`), and each value gets memory,
   used again when its last reader has run.
3. **Program.** A loop's operations become `statements` in a backend's language, in `passes` over
   rows, gone through in the order of a `nest`. The backend compiles them and calls its
   library's products in between. `recorded` says for how long this is what is done.
   `account` tells all of it to who asks, for `ldl.explain`.

A dense layer's

    y = maximum(x @ w + b, 0)

is a product and a loop, whose statements are, for the host,

    for i0 in range(first, last):
        for i1 in range(n1):
            x0 = a0[i0 * w0 + i1]
            x1 = a1[i1]
            t2 = x0 + x1
            t3 = (t2 if (t2 >= f4(0.0) or t2 != t2) else f4(0.0))
            o0[i0 * w0 + i1] = t3

which `ldl_numpy` makes LLVM's language of, and for each element that a thread of a GPU has,

    const auto t2 = x0 + x1;
    const auto t3 = Max::of(t2, 0.0f);
    to_o0.of[k] = t3;

`LDL_DUMP=loops` prints those of a program as it is compiled, with the machine's code.
"""
