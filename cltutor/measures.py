"""The main numbers of a fit: its accuracies, what its generator draws, what its probes find."""

import sys
import time

from cltutor import diffused, probe, recipe, samples, segmentation


def measured(result, stream, kind: str | None = None) -> dict:
    """The main numbers of a fit that was `watched`, with those of its generator. NaN is None.

    With a `kind`, those of such probes, too, on its "body".
    See `Result.summary`, `samples.summary`, `diffused.summary` and `probe.summary`.
    """
    with recipe.torch_threads(1):
        found = result.summary() | samples.summary(result.values["drawn"][1:], stream)
        found |= diffused.summary(result.values.get("diffused", [])[1:], stream)
        found |= segmentation.summary(result.values.get("iou", [])[1:])
        if kind is not None:
            found |= probe.summary(result.values["body"], stream, kind)
    return without_nan(found)


def watched(stream, kind: str | None = None) -> dict:
    """What `measured` needs, for `watch`. UserError if there is no such kind of probes."""
    name = diffused.known(stream)
    watch = {"drawn": samples.draw()} | ({"diffused": diffused.draw(name)} if name else {})
    if stream.target == "map":
        watch["iou"] = segmentation.watch(stream)
    if kind is not None and probe.known(kind):
        watch["body"] = probe.snapshot
    return watch


def facts(start: float, where: dict) -> dict:
    """Versions, device, seconds since `start`, peak memory of this process or a child."""
    try:
        import resource

        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak = round(max(resource.getrusage(one).ru_maxrss for one in who) / unit)
    except ImportError:  # Windows
        peak = None
    versions = {name: where[name] for name in ("python", "torch")}
    where = {name: where[name] for name in ("device", "precision", "threads")}
    seconds = round(time.perf_counter() - start, 1)
    return {"versions": versions, **where, "seconds": seconds, "peak_mb": peak}


def without_nan(value):
    """`value` as JSON holds it: None for NaN, at any depth."""
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if value != value else value
