"""Losses, teachers, labels and pools of a model that draws images and tells their classes.

A model here has `model(u_t, t)`, the noise that it sees, and `model.logits(x)`: see
`cltutor.nets.joint`.
Equations: JDCL is Skierś & Deja 2025; FixMatch is Sohn et al. 2020.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cltutor.errors import UserError
from cltutor.stream import visible


def joint_loss(
    eps: Tensor, logits: Tensor, target: Tensor, p: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """|eps - target|^2 and -sum_c p_c log q_c, each the mean over the batch of weight times it.

    Args:
        eps, target: noise (B, C, H, W), seen and true, or seen by a teacher; mean over the pixels.
        logits: (B, n_classes), of which q is the softmax; -inf hides a class.
        p: shares (B, n_classes): one for the label, a teacher's, or all 0 without a label.
        weight: (B,), of each image.
    """
    noise = (eps - target).square().flatten(1).mean(1)
    log_q = F.log_softmax(logits, dim=1).masked_fill(p == 0, 0.0)
    return (weight * noise).mean(), -(weight * (p * log_q).sum(1)).mean()


def shares(y: Tensor, n_classes: int) -> Tensor:
    """Labels (B,), -1 for none, as p of `joint_loss`: (B, n_classes)."""
    return F.one_hot(y.clamp(min=0), n_classes) * (y >= 0).float()[:, None]


def answers(teacher: nn.Module, x, u_t, t, heads, scenario) -> tuple[Tensor, Tensor]:
    """What a frozen teacher says: noise (B, C, H, W) in u_t at t, shares (B, n_classes) for x.

    Raises:
        UserError: the teacher is in train mode, or one of its weights asks for a gradient.
    """
    if teacher.training or any(weight.requires_grad for weight in teacher.parameters()):
        raise UserError(
            f"this {type(teacher).__name__} still trains and cannot teach: take frozen_copy of it."
        )
    with torch.no_grad():
        return teacher(u_t, t), F.softmax(visible(teacher.logits(x), heads, scenario), dim=1)


def taught(
    teachers: dict[int, nn.Module], whose: Tensor, x, u_t, t, heads, e, scenario
) -> tuple[Tensor, Tensor, Tensor]:
    """`answers` of each row's own teacher, and 1 for each row that has one, else 0: (B,).

    Args:
        teachers: {whose: teacher}; rows of nobody named here keep e, and p = 0.
        whose: (B,) int64, of each row of x, u_t, t, heads (B, n_classes) bool and e.
    """
    target, p, has = e.clone(), torch.zeros(heads.shape, device=e.device), torch.zeros(len(e))
    has = has.to(e.device)
    for one, teacher in teachers.items():
        mine = whose == one
        if mine.any():
            rows = (part[mine] for part in (x, u_t, t, heads))
            target[mine], p[mine] = answers(teacher, *rows, scenario)
            has[mine] = 1
    return target, p, has


@torch.no_grad()
def average(ema: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """ema <- d ema + (1 - d) model after `step` steps, d = min(decay, (1 + step) / (10 + step)).

    The exponential moving average (EMA) with the usual warm-up: it forgets its start in few steps.
    """
    d = min(decay, (1 + step) / (10 + step))
    for mean, weight in zip(ema.parameters(), model.parameters(), strict=True):
        mean.lerp_(weight, 1 - d)


@dataclass(frozen=True)
class Pool:
    """Images that a model drew and labelled itself: x (n, C, H, W) in [0, 1] with y (n,).

    `said` (n_classes,) counts the label of all that were drawn; y has those that were kept.
    """

    x: Tensor
    y: Tensor
    said: Tensor

    @property
    def counts(self) -> Tensor:
        """(2, n_classes): of every class how many were drawn, and how many kept."""
        return torch.stack([self.said, self.y.bincount(minlength=len(self.said))])


def fill(
    model: nn.Module,
    wanted: Tensor,
    known: Tensor,
    quota: int,
    size: int,
    rng: torch.Generator,
    labels: bool = True,
) -> Iterator[Pool]:
    """Draw `size` images after `size` images and yield the pool so far, until each class is full.

    The model draws anything and labels what it drew; what its class has no room for, or what is
    called another class, is rejected. Drawing ends at twice the sum of the quotas (JDCL's code,
    which then copies what is there): a class that is rarely drawn stays short or empty.

    Args:
        wanted: (n_classes,) bool, the classes of which there shall be `quota` images each.
        known: (n_classes,) bool, what a label may be: the classes that the model has learnt.
        labels: whether the model labels; if not, every image gets a wanted class at random.

    Yields:
        A `Pool` on the CPU.
    """
    room, classes, xs, ys = wanted.long() * quota, wanted.nonzero().flatten(), [], []
    said = torch.zeros_like(room)
    for _ in range(-(-2 * quota * len(classes) // size)):
        x = model.sample(size, rng)
        if labels:
            with torch.no_grad():
                y = model.logits(x).cpu().masked_fill(~known, float("-inf")).argmax(1)
        else:
            y = classes[torch.randint(len(classes), (size,), generator=rng)]
        turn = F.one_hot(y, len(known)).cumsum(0)[torch.arange(size), y]
        kept = turn <= room[y]
        said = said + y.bincount(minlength=len(known))
        room = room - y[kept].bincount(minlength=len(known))
        xs, ys = [*xs, x.cpu()[kept]], [*ys, y[kept]]
        yield Pool(torch.cat(xs), torch.cat(ys), said)
        if not room.any():
            return


REAL, OLD, NEW = range(3)  # whose image: the stream's, the global model's, the local model's


def merge(parts: dict[int, tuple[Tensor, Tensor]], seen: int) -> tuple[Tensor, Tensor]:
    """Images x (N, C, H, W) with (label, whose) for each, (N, 2), of {whose: (x, y)}.

    Dreams of `seen` experiences that stand beside real images are repeated until they are `seen`
    times as many, so that experiences, and with them classes, count alike.
    """
    if REAL in parts and OLD in parts:
        x, y = parts[OLD]
        rows = torch.arange(seen * len(parts[REAL][1])) % len(y)
        parts = parts | {OLD: (x[rows], y[rows])}
    facts = [torch.stack([y, torch.full_like(y, who)], 1) for who, (_, y) in parts.items()]
    return torch.cat([x for x, _ in parts.values()]), torch.cat(facts)


# --- few labels: FixMatch ------------------------------------------------------------------------


def marked(y: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Indices of the labelled images that stay so: of each class this share, at least one."""
    picked = []
    for c in y[y >= 0].unique():
        mine = (y == c).nonzero().flatten()
        mine = mine[torch.randperm(len(mine), generator=rng)]
        picked.append(mine[: max(1, round(share * len(mine)))])
    return torch.cat(picked)


def weak(x: Tensor, rng: torch.Generator, reach: float = 1 / 12) -> Tensor:
    """Images (B, C, H, W) in [0, 1], each moved by up to `reach` of its side, black behind it."""
    side = max(1, round(reach * x.shape[-1]))
    out = F.pad(x, [side] * 4)
    across = torch.randint(2 * side + 1, (2, len(x)), generator=rng)
    rows, columns = (
        across[i].to(x.device)[:, None] + torch.arange(x.shape[2 + i], device=x.device)
        for i in (0, 1)
    )
    each = torch.arange(len(x), device=x.device)[:, None, None]
    return out.transpose(0, 1)[:, each, rows[:, :, None], columns[:, None, :]].transpose(0, 1)


def strong(x: Tensor, rng: torch.Generator) -> Tensor:
    """Images (B, C, H, W) in [0, 1], moved by up to a sixth, darkened, with a square cut out."""
    x, (height, width) = weak(x, rng, 1 / 6), x.shape[-2:]
    light, top, left = torch.rand(3, len(x), 1, 1, 1, generator=rng).to(x.device)
    row = torch.arange(height, device=x.device)[:, None] / height
    column = torch.arange(width, device=x.device) / width
    gone = ((row - top).abs() < 0.125) & ((column - left).abs() < 0.125)
    return (x * (0.5 + 0.5 * light)).masked_fill(gone, 0.0)


def pseudo_loss(weak_logits: Tensor, strong_logits: Tensor, threshold: float = 0.95) -> Tensor:
    """CE of strong views against the labels of their weak views, where these are sure (FixMatch).

    Logits (B, n_classes) of the two views of each image; an image whose likeliest class has less
    than `threshold` under the weak view counts 0; mean over all B, 0 without any.
    """
    sure, y = F.softmax(weak_logits, dim=1).max(1)
    loss = (sure >= threshold) * F.cross_entropy(strong_logits, y, reduction="none")
    return loss.sum() / max(1, len(y))


def semi_loss(model: nn.Module, x, few, see, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """CE on weak views of labelled images, and `pseudo_loss` on two views of x (B, C, H, W).

    Args:
        few: (images, labels) of all that have a label; an eighth of B are drawn, at least one.
        see: logits -> logits, what hides the classes that cannot be.
    """
    pick = torch.randint(len(few[1]), (max(1, len(x) // 8),), generator=rng)
    ce = F.cross_entropy(see(model.logits(weak(few[0][pick], rng))), few[1][pick])
    return ce, pseudo_loss(*(see(model.logits(view(x, rng))) for view in (weak, strong)))
