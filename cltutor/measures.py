"""The main numbers of a fit: its accuracies, what its generator draws, what its probes find."""

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
    return _without_nan(found)


def watched(stream, kind: str | None = None) -> dict:
    """What `measured` needs, for `watch`. UserError if there is no such kind of probes."""
    name = diffused.known(stream)
    watch = {"drawn": samples.draw()} | ({"diffused": diffused.draw(name)} if name else {})
    if stream.target == "map":
        watch["iou"] = segmentation.watch(stream)
    if kind is not None and probe.known(kind):
        watch["body"] = probe.snapshot
    return watch


def _without_nan(value):
    """`value` as JSON holds it: None for NaN, at any depth."""
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if value != value else value
