"""What the four computations give, of ours or of the original; as a script, of the original.

``python -I original_results.py FILE`` runs in the environment of the original and writes what
`results` returns.
"""

import itertools
import sys
import warnings
from pathlib import Path

CASES = {"exact": {}, "subset": {"subsampling": [4, 0, 2]}}
"""Variants that draw nothing."""


def results():
    """By problem, variant, grouping and computation: tensors, or why there are none.

    A flat list: what `get_result` returns for each group, then what each damping was given.
    """
    from drop_in import (
        ALL,
        GROUPS,
        PROBLEMS,
        EighComputation,
        EigvalshComputation,
        for_directional,
        leading,
        run,
        split,
    )

    found = {}
    for problem, variant, how, kind in itertools.product(PROBLEMS, CASES, GROUPS, ALL):
        model, *rest = PROBLEMS[problem].make()
        named = dict(model.named_parameters())
        options = CASES[variant]
        if kind not in (EigvalshComputation, EighComputation):
            options = {"subsampling_grad": [3, 1], **for_directional(options)}
        given = []

        def damping(*arguments, given=given):
            given.extend(arguments)
            return 0.5 + arguments[0]

        groups = [
            {"params": [named[n] for n in names], "criterion": leading, "damping": damping}
            for names in split(model, how)
        ]
        if kind is not EigvalshComputation:
            options = {**options, "warn_small_eigvals": 0.0}
        key = "; ".join([problem, variant, how, kind.__name__])
        try:
            of_groups = run(kind(**options), model, *rest, groups)
        except (NotImplementedError, RuntimeError) as error:
            found[key] = str(error)
            continue
        found[key] = [
            *flat(of_groups),
            *(x.detach().clone() for x in given),
        ]
    return found


def flat(result):
    """Tensors as a list, without nesting."""
    if isinstance(result, (list, tuple)):
        return [x for part in result for x in flat(part)]
    return [result.detach().clone()]


def main(file):
    """Run the original, with what it needs of torch."""
    import torch

    import vivit  # noqa: F401 - the original, before ours can be found

    tests = Path(__file__).resolve().parent
    sys.path += [str(tests), str(tests.parent)]
    from benchmarks.methods.original import original_package, symeig

    original_package()
    torch.Tensor.symeig = symeig
    warnings.simplefilter("ignore")
    torch.save(results(), file)


if __name__ == "__main__":
    main(sys.argv[1])
