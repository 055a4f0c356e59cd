"""Canvases, streams of maps, mean IoU, folders of VOC and Cityscapes, and MiB's two readings."""

import dataclasses
from math import log

import numpy as np
import pytest
import torch
from contract import Case, flat, rng, small
from PIL import Image
from sklearn.metrics import jaccard_score

from cltutor import canvas, data, mapfolder, recipe, segmentation, streams
from cltutor.data import Dataset
from cltutor.errors import UserError
from cltutor.methods import finetune, mib, vdfd
from cltutor.nets.segmenter import Segmenter, UBody

DIGITS = data.load("digits")
TRAIN = (DIGITS.x_train.numpy(), DIGITS.y_train.numpy())


# --- canvases ------------------------------------------------------------------------------------


def test_a_canvas_shows_two_to_four_digits_that_do_not_overlap():
    one = TRAIN[0][:1], np.array([7])
    strokes, maps = canvas.lay_out(*one, 50, 24, np.random.default_rng(0))
    alone, alone_map = canvas.lay_out(*one, 1, 16, np.random.default_rng(0))
    size = 12 * 12
    large = torch.nn.functional.interpolate(
        torch.from_numpy(one[0]).float() / 16, 12, mode="bilinear"
    )
    ink = (large > canvas.INK).sum().item()
    counts = (maps == 8).flatten(1).sum(1) / ink
    assert set(counts.tolist()) <= {1.0, 2.0, 3.0, 4.0}, "digits overlap, or were cut"
    assert counts.max() >= 2 and maps.max() == 8 and ink < size
    assert torch.equal(maps > 0, strokes[:, 0] > canvas.INK)
    assert alone.shape == (1, 1, 16, 16) and alone_map.shape == (1, 16, 16)


def test_canvases_are_a_data_set():
    first, again = canvas.canvases(TRAIN, TRAIN, 16), canvas.canvases(TRAIN, TRAIN, 16)
    for one, other in zip(first[0], again[0], strict=True):
        np.testing.assert_array_equal(one, other)
    loaded = data.load("canvas16")
    assert loaded.x_train.shape == (5000, 1, 16, 16) and loaded.x_train.dtype == torch.uint8
    assert loaded.y_test.shape == (300, 16, 16) and loaded.domain_train is None
    assert loaded.y_train.unique().tolist() == list(range(11)) and len(loaded.class_names) == 11


def test_styles_look_different_and_keep_their_maps():
    loaded = data.load("styled16")
    assert loaded.domain_train.bincount().tolist() == [200] * 21
    assert loaded.domain_test.bincount().tolist() == [30] * 21
    ink = torch.stack([
        loaded.x_train[loaded.domain_train == d].float()[:, 0][
            loaded.y_train[loaded.domain_train == d] > 0
        ].mean()
        for d in range(21)
    ])  # fmt: skip
    ground = torch.stack([
        loaded.x_train[loaded.domain_train == d].float()[:, 0][
            loaded.y_train[loaded.domain_train == d] == 0
        ].mean()
        for d in range(21)
    ])  # fmt: skip
    assert ((ink < ground) == (torch.arange(21) % 3 == 2)).all(), "every third is dark on bright"
    assert ((ink - ground).abs() > 40).all(), "a style in which nothing can be seen"


# --- streams -------------------------------------------------------------------------------------


def toy(n: int = 60, side: int = 4) -> Dataset:
    """Maps of five classes, and three styles."""
    x = torch.randint(0, 256, (n, 1, side, side), generator=rng(), dtype=torch.uint8)
    y = torch.randint(0, 5, (n, side, side), generator=rng(1))
    y = torch.where(torch.rand(n, side, side, generator=rng(2)) < 0.7, 0, y)
    domains, names = torch.arange(n) % 3, tuple("_abcd")
    return Dataset("toy", x, y, x[:9], y[:9], 255, names, "", domains, domains[:9])


@pytest.mark.parametrize("make", [segmentation.voc, segmentation.disjoint])
@pytest.mark.parametrize("seed", [0, 1])
def test_old_and_future_classes_are_labelled_background(make, seed):
    whole = toy()
    stream = make(whole, 2, 1, seed=seed)
    assert len(stream) == 3 and stream.n_classes == 5 and stream.target == "map"
    assert sorted(c for part in stream.parts for c in part["classes"][1:]) == [1, 2, 3, 4]
    assert (stream.parts[0]["classes"] == (0, 1, 2)) == (seed == 0)
    numbers = {tuple(x.flatten().tolist()): i for i, x in enumerate(whole.x_train)}
    entered = []
    for part in stream.parts:
        mine = [numbers[tuple(x.flatten().tolist())] for x in part["x"]]
        truth = whole.y_train[mine]
        shown = torch.isin(truth, torch.tensor(part["classes"]))
        assert torch.equal(part["y"], torch.where(shown, truth, 0))
        assert ((part["y"] > 0).flatten(1).any(1)).all(), "an image without a class at hand"
        assert torch.equal(part["y_test"], whole.y_test), "the test set has every label"
        entered += mine
    with_some = (whole.y_train > 0).flatten(1).any(1).sum().item()
    if make is segmentation.disjoint:
        assert len(entered) == len(set(entered)) == with_some
    else:
        assert len(entered) > len(set(entered)) == with_some


def test_disjoint_images_enter_with_their_last_class():
    stream = segmentation.disjoint(toy(), 2, 1)
    later = torch.tensor([4])
    for part in stream.parts[:2]:
        numbers = {tuple(x.flatten().tolist()): i for i, x in enumerate(toy().x_train)}
        mine = [numbers[tuple(x.flatten().tolist())] for x in part["x"]]
        assert not torch.isin(toy().y_train[mine], later).any()


def test_ignored_pixels_stay_ignored():
    one = toy()
    one.y_train[:, 0, 0] = -100
    for part in segmentation.voc(one, 2, 1).parts:
        assert (part["y"][:, 0, 0] == -100).all() and (part["y"][:, 1:] >= 0).all()


def test_cities_are_styles_with_every_label():
    stream = segmentation.cities(toy(), 2, 1)
    assert [len(part["x"]) for part in stream.parts] == [40, 20]
    assert [len(part["x_test"]) for part in stream.parts] == [6, 3]
    assert all(part["classes"] == (0, 1, 2, 3, 4) for part in stream.parts)
    assert torch.equal(stream.parts[1]["y"], toy().y_train[2::3])
    assert stream.scenario == "domain"


def test_the_names_of_streams_of_maps():
    for name in ("voc-canvas16-6-2", "disjoint-canvas16-6-1", "cities-styled16-11-5"):
        assert streams.load(name).name == name
    assert [len(streams.load(f"voc-canvas16-{end}")) for end in ("6-2", "6-1", "1-1", "10")] == [
        3, 5, 10, 1,
    ]  # fmt: skip
    assert [len(streams.load(f"cities-styled16-{end}")) for end in ("11-5", "11-1", "21")] == [
        3, 11, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "scenario", "words"),
    [
        ("voc-canvas16-6-3", None, "are not 6 and then 3 at a time"),
        ("voc-canvas16-6", None, "are not 6 and then none at a time"),
        ("cities-styled16-22-1", None, "21 styles are not 22"),
        ("voc-canvas16-0-1", None, "10 classes are not 0"),
        ("voc-digits-6-2", None, "a class for every pixel, such as canvas16; this is digits"),
        ("voc-canvas16-6-2", "task", "voc is for the scenario class"),
        ("cities-canvas16-11-5", None, "data with styles, such as styled16"),
        ("cities-styled16-11-5", "class", "cities is for the scenario domain"),
        ("voc-canvas16-6-2-1", None, "unknown stream"),
        ("voc-canvas16", None, "unknown stream"),
    ],
)
def test_streams_that_cannot_be(name, scenario, words):
    with pytest.raises(UserError, match=words):
        streams.load(name, scenario=scenario)


# --- mean IoU ------------------------------------------------------------------------------------


class Told(torch.nn.Module):
    """A solver that calls pixels what it is told."""

    def __init__(self, answers, n_classes):
        super().__init__()
        self.answers, self.weight = answers, torch.nn.Parameter(torch.zeros(1))
        self.n, self.at = n_classes, 0

    def forward(self, x):
        mine = self.answers[self.at : self.at + len(x)]
        self.at += len(x)
        return torch.nn.functional.one_hot(mine, self.n).movedim(-1, 1).float()


def test_iou_is_the_jaccard_score():
    truth = torch.randint(0, 4, (250, 4, 4), generator=rng())
    guess = torch.randint(0, 4, (250, 4, 4), generator=rng(1))
    matrix = segmentation.confusion(Told(guess, 4), torch.zeros(250, 1, 4, 4), truth, 4)
    expected = jaccard_score(truth.flatten(), guess.flatten(), average=None)
    torch.testing.assert_close(segmentation.iou(matrix), torch.from_numpy(expected))


def test_iou_by_hand_without_ignored_pixels_and_absent_classes():
    truth = torch.tensor([[[0, 0, 1, 1], [1, -100, -100, 0]]])
    guess = torch.tensor([[[0, 1, 1, 1], [3, 2, 1, 0]]])
    matrix = segmentation.confusion(Told(guess, 4), torch.zeros(1, 1, 2, 4), truth, 4)
    # class 0: 2 right, 1 missed; class 1: 2 right, 1 missed, 1 too many; 2 and 3 are in no truth
    expected = torch.tensor([2 / 3, 2 / 4, float("nan"), float("nan")], dtype=torch.float64)
    torch.testing.assert_close(segmentation.iou(matrix), expected, equal_nan=True)
    told = segmentation.summary([expected.tolist()])
    assert told["miou"] == pytest.approx((2 / 3 + 1 / 2) / 2) and told["miou_foreground"] == 0.5
    assert segmentation.summary([]) == {}


def test_r_is_the_iou_of_each_experiences_classes():
    stream = segmentation.voc(toy(), 2, 1)
    right = {"solver": Told(toy().y_test, 5)}
    np.testing.assert_array_equal(recipe.evaluate(right, stream), [1, 1, 1])
    assert right["solver"].at == 9, "one test set was looked at more than once"
    seen = torch.where(toy().y_test == 3, 0, toy().y_test)
    np.testing.assert_array_equal(recipe.evaluate({"solver": Told(seen, 5)}, stream), [1, 0, 1])
    ground = recipe.evaluate({"solver": Told(torch.zeros_like(seen), 5)}, stream)
    np.testing.assert_array_equal(ground, [0, 0, 0])  # the background counts in none


def test_in_cities_every_test_set_is_looked_at():
    stream = segmentation.cities(toy(), 2, 1)
    answers = torch.cat([stream.test(k)[1] for k in range(2)])
    row = recipe.evaluate({"solver": Told(answers, 5)}, stream)
    np.testing.assert_array_equal(row, [1, 1])


def test_a_fit_tells_the_iou_of_every_class(toy_for):
    stream = toy_for("mib", "default")
    watch = {"iou": segmentation.watch(stream)}
    result = recipe.fit("mib", stream, small(mib), watch=watch)
    found = segmentation.summary(result.values["iou"][1:])
    assert np.shape(found["iou"]) == (3, 7) and 0 < found["miou"] < 1
    assert found["miou_foreground"] == pytest.approx(np.mean(found["iou"][-1][1:]))


# --- folders -------------------------------------------------------------------------------------


def voc_folder(root) -> None:
    """Two images for training and one for testing, as Pascal VOC has them: maps with a palette."""
    folder = root / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for name, listed in (("train", ["a", "b"]), ("val", ["c"])):
        (folder / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(listed) + "\n")
    for one, c in (("a", 20), ("b", 3), ("c", 1)):
        Image.new("RGB", (60, 40), (200, 10, 10)).save(folder / "JPEGImages" / f"{one}.jpg")
        ids = np.full((40, 60), c, np.uint8)
        ids[:, 29:31] = 255
        picture = Image.fromarray(ids, "P")
        picture.putpalette(list(range(256)) * 3)
        picture.save(folder / "SegmentationClass" / f"{one}.png")


def test_a_folder_of_voc(tmp_path):
    voc_folder(tmp_path)
    loaded = data.load("voc2012", tmp_path)
    assert loaded.x_train.shape == (2, 3, 96, 96) and loaded.y_test.shape == (1, 96, 96)
    assert loaded.y_train[0].unique().tolist() == [-100, 20], "ids were mixed or coloured"
    assert (loaded.y_train[1][:, 48] == -100).all() and loaded.y_train[1][0, 0] == 3
    assert abs(int(loaded.x_train[0, 0].float().mean()) - 200) < 3 and len(loaded.class_names) == 21
    stream = segmentation.voc(loaded, 19, 1)
    assert [len(part["x"]) for part in stream.parts] == [1, 1]


def test_a_folder_of_cityscapes(tmp_path):
    for where, city in (("train", "bonn"), ("train", "aachen"), ("val", "ulm")):
        for kind in ("leftImg8bit", "gtFine"):
            (tmp_path / "cityscapes" / kind / where / city).mkdir(parents=True)
        for i in range(5):
            stem = f"{city}_{i:06}_000019"
            folder = tmp_path / "cityscapes"
            image = Image.new("RGB", (64, 32), (0, 10 * i, 0))
            image.save(folder / "leftImg8bit" / where / city / f"{stem}_leftImg8bit.png")
            ids = np.full((32, 64), 26, np.uint8)  # cars
            ids[:, :32] = 4  # static: not one of the 19
            truth = folder / "gtFine" / where / city / f"{stem}_gtFine_labelIds.png"
            Image.fromarray(ids).save(truth)
    loaded = data.load("cityscapes", tmp_path)
    assert loaded.x_train.shape == (12, 3, 64, 128) and loaded.x_test.shape == (3, 3, 64, 128)
    assert loaded.domain_train.bincount().tolist() == [4, 4, 4]
    assert loaded.class_names[13] == "car"
    assert (loaded.y_train[:, :, :64] == -100).all() and (loaded.y_train[:, :, 64:] == 13).all()
    assert len(mapfolder.CITYSCAPES_IDS) == len(loaded.class_names) == 19
    assert [len(part["x"]) for part in segmentation.cities(loaded, 2, 1).parts] == [8, 4]
    (tmp_path / "cityscapes/leftImg8bit/val/ulm/ulm_000003_000019_leftImg8bit.png").unlink()
    with pytest.raises(UserError, match="ulm has 4 images, and at least 5 are needed"):
        mapfolder.cityscapes(tmp_path, 64)


@pytest.mark.parametrize("name", ["voc2012", "cityscapes"])
def test_a_folder_that_is_not_there(name, tmp_path):
    with pytest.raises(
        UserError, match="cannot be downloaded. Unpack the data set into .* CLTUTOR"
    ):
        data.load(name, tmp_path)


def test_a_folder_that_lacks_an_image_or_has_a_broken_one(tmp_path):
    voc_folder(tmp_path)
    picture = tmp_path / "VOCdevkit/VOC2012/SegmentationClass/b.png"
    picture.write_bytes(b"no image")
    with pytest.raises(UserError, match="b.png is no image that can be read"):
        data.load("voc2012", tmp_path)
    picture.unlink()
    with pytest.raises(UserError, match="there is no .*b.png"):
        data.load("voc2012", tmp_path)


# --- the network and MiB -------------------------------------------------------------------------


def test_the_segmenter_answers_for_every_pixel():
    net = Segmenter((3, 8, 12), 5, 4)
    assert net(torch.rand(2, 3, 8, 12)).shape == (2, 5, 8, 12)
    assert net.body(torch.rand(2, 3, 8, 12)).shape == (2, 4, 8, 12)
    with pytest.raises(UserError, match="4 must divide both"):
        UBody((1, 6, 8), 4)


P = torch.tensor([0.1, 0.2, 0.3, 0.4])


def log_p() -> torch.Tensor:
    """One image of 1x1 with the probabilities P."""
    return P.log().view(1, 4, 1, 1)


def ids(*classes) -> torch.Tensor:
    chosen = torch.zeros(4, dtype=torch.bool)
    chosen[list(classes)] = True
    return chosen


def test_the_background_stands_for_others_by_hand():
    log_q = mib.merged(log_p(), ids(1, 2)).flatten()
    torch.testing.assert_close(log_q.exp(), torch.tensor([0.6, 0.2, 0.3, 0.4]))
    torch.testing.assert_close(mib.merged(log_p(), ids()).flatten().exp(), P)
    among = mib.among(log_p() + 3, ids(1, 3)).flatten().exp()
    torch.testing.assert_close(among, torch.tensor([0, 1 / 3, 0, 2 / 3]))


def test_distillation_by_hand():
    """Known before: 0, 1, 2; new: 3. The teacher has a logit for 3 that counts nothing."""
    targets = torch.tensor([0.5, 0.25, 0.25, 100.0]).log().nan_to_num(99).view(1, 4, 1, 1)
    log_r = mib.merged(log_p(), ids(3))
    expected = -(0.5 * log(0.5) + 0.25 * log(0.2) + 0.25 * log(0.3)) / 3
    assert mib.distill(log_r, targets, ids(0, 1, 2)).item() == pytest.approx(expected)


def test_new_classes_start_as_a_part_of_the_background():
    """Before the first step the sum of background and new classes is the teacher's background."""
    torch.manual_seed(0)
    net, new = Segmenter((1, 4, 4), 5, 4), [3, 4]
    x, known = torch.rand(2, 1, 4, 4), torch.tensor([True, True, True, False, False])
    before = torch.softmax(net(x)[:, known], 1)
    mib.start_from_background(net.head, new)
    log_r = mib.merged(torch.log_softmax(net(x), 1), ~known)
    torch.testing.assert_close(log_r[:, known].exp(), before)


def test_mib_needs_maps(toy):
    with pytest.raises(UserError, match="mib needs a class for every pixel"):
        next(mib.run(toy(), small(mib)))


def test_without_its_parts_mib_is_fine_tuning_among_the_classes_known(toy_for, tmp_path):
    """In the domain scenario every class is known from the start: the same bits as finetune.py."""
    stream = toy_for("mib", "default", "domain")
    off = dataclasses.replace(small(mib), lam=0.0, label=False, keep=False, start=False)
    plain = dataclasses.replace(small(finetune), net="segmenter", hidden=off.hidden, lr=off.lr)
    ours = Case(mib, off, stream, tmp_path).carried()
    theirs = Case(finetune, plain, stream, tmp_path).carried()
    for a, b in zip(ours, theirs, strict=True):
        for name, weight in a["solver"].items():
            torch.testing.assert_close(weight, b["solver"][name])


@pytest.mark.parametrize("method", [mib, vdfd])
def test_a_lower_rate_after_the_first_experience(method, toy_for):
    """Adam's first step has the size of the learning rate."""
    stream, moves = toy_for("mib", "default", "domain"), {}
    for rates in ("constant", "lower"):
        cfg = dataclasses.replace(small(method), rates=rates, lam=0.0, steps=1)
        cfg = dataclasses.replace(cfg, net="segmenter") if method is vdfd else cfg
        ends = [tick.carried for tick in method.run(stream, cfg) if tick.end]
        moves[rates] = flat(ends[1]["solver"]) - flat(ends[0]["solver"])
        first = flat(ends[0]["solver"])
        assert torch.equal(moves.setdefault("first", first), first)
    ratio = (moves["lower"].norm() / moves["constant"].norm()).item()
    assert ratio == pytest.approx(1 / 20, rel=1e-2)


def test_a_stream_of_one_experience_has_no_transfer():
    """Joint training is fine-tuning on all classes at once."""
    stream = segmentation.voc(toy(), 4)
    result = recipe.fit("finetune", stream, dataclasses.replace(small(finetune), net="segmenter"))
    told = result.summary()
    assert len(told["R"]) == 1 and told["acc"] == pytest.approx(result.R[0, 0])
    assert (
        "bwt" not in told
        and "bwt" in recipe.fit("mib", segmentation.voc(toy(), 2, 2), small(mib)).summary()
    )
