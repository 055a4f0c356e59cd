"""The exercises of notebook 07."""

import torch

from cltutor.check.hints import close, expect, number


def _known_distillation(function) -> None:
    # Teacher (3/4, 1/4) among the known two, learner (1/2, 1/2): H = log 2 = 0.6931; in the second
    # row the learner has (1/4, 3/4): H = 3/4 log 4 + 1/4 log 4/3 = 1.1116. Mean 0.9024.
    three = torch.tensor(3.0).log().item()
    teacher = torch.tensor([[three, 0.0, 5.0], [three, 0.0, -5.0]])
    logits = torch.tensor([[0.0, 0.0, 2.0], [0.0, three, -1.0]])
    known = torch.tensor([True, True, False])
    value = number(function(logits, teacher, known))
    p, q = teacher.softmax(1), logits.log_softmax(1)
    expect(
        not close(value, -(p * q).sum(1).mean().item()),
        "That is Eq. 2 itself, over all classes: leave out those that are not known.",
    )
    p = teacher[:, :2].softmax(1)
    expect(
        not close(value, -(p * q[:, :2]).sum(1).mean().item()),
        "The learner's softmax still has the unknown classes in its sum: leave them out there.",
    )
    q = logits[:, :2].log_softmax(1)
    expect(
        not close(value, -(logits[:, :2].softmax(1) * teacher[:, :2].log_softmax(1)).sum(1).mean()),
        "The other way round: the teacher's probabilities weigh the learner's logarithms.",
    )
    expect(not close(value, -(p * q).sum().item()), "The mean over the batch, not its sum.")
    expect(not close(value, -(p * q).mean().item()), "The sum over classes, not their mean.")
    right = -(p * q).sum(1).mean().item()
    expect(
        not close(value, (p * (p.log() - q)).sum(1).mean().item()),
        "That is KL; Eq. 2 has the cross-entropy H, without the teacher's entropy.",
    )
    expect(close(value, right), f"This should give {right:.3f}; {value:.3f} came back.")
    loss = function(logits.clone().requires_grad_(), teacher, known)
    expect(
        torch.is_tensor(loss) and loss.requires_grad,
        "Return a tensor that can be differentiated: no float() or .item() on the way.",
    )
    last = torch.tensor([False, True, True])
    value = number(function(logits, teacher, last))
    p, q = teacher[:, 1:].softmax(1), logits[:, 1:].log_softmax(1)
    expect(
        close(value, -(p * q).sum(1).mean().item()),
        "`known` may be any of the classes, not only the first ones: index with it.",
    )


def _surest(function) -> None:
    # Labels 0, 0, 1, 0, 1; margins 1, 3, 2, 2.5, 0.5. Image 3 has the largest logit of class 0.
    logits = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [9.0, 6.5], [1.0, 1.5]])
    kept = _indices(function(logits, 2))
    expect(kept != [0, 1, 2, 4], "Those are the first of each class, as the kit takes them.")
    expect(kept != [1, 3], "Of each class: the quota counts per label, not over all images.")
    expect(kept != [0, 2, 3, 4], "Those are the least sure ones.")
    expect(
        kept == [1, 2, 3, 4],
        f"With a quota of 2 it is 1 and 3 for class 0, 2 and 4 for class 1; {kept} came back.",
    )
    one = _indices(function(logits, 1))
    expect(
        one != [2, 3],
        "Image 3 has the largest logit, but image 1 the larger probability: compare those.",
    )
    expect(one == [1, 2], f"With a quota of 1 it is images 1 and 2; {one} came back.")
    expect(
        _indices(function(logits, 3)) == [0, 1, 2, 3, 4],
        "A class with fewer images than the quota keeps all it has, and gets none from elsewhere.",
    )


def _indices(value) -> list[int]:
    expect(torch.is_tensor(value) and value.ndim == 1, "Return indices: a tensor with one axis.")
    expect(not value.is_floating_point() and value.dtype != torch.bool, "Indices are integers.")
    found = value.tolist()
    expect(len(set(found)) == len(found), "An image is kept once.")
    return sorted(found)


EXERCISES = {"07-known-distillation": _known_distillation, "07-surest": _surest}
