"""cltutor.records: what ships is of today's settings and bears out every claim."""

import copy
import json
import math
import os
import re

import numpy as np
import pytest

from cltutor import metrics, probe, recipe, records, runs
from cltutor.errors import UserError

SHIPPED = records.everything()
DGR = SHIPPED["dgr.split-digits.quick"]


# --- every record that ships ---------------------------------------------------------------------


@pytest.mark.parametrize("label", SHIPPED)
def test_schema(label):
    record = SHIPPED[label]
    assert record["schema"] == records.SCHEMA
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])
    assert label.endswith("-".join(filter(None, (record["profile"], record.get("preset")))))
    assert record["command"].startswith("cltutor verify ") and "--record" in record["command"]
    assert record["config_hash"] == records.config_hash(record["config"])
    assert set(record["versions"]) == {"python", "torch"}
    for name, settings in record["config"].items():
        assert name in recipe.methods() and "seed" not in settings
    seeds = int(re.search(r"--seeds (\d+)", record["command"])[1])
    for setting in {run["setting"] for run in record["runs"]}:
        found = [run["seed"] for run in record["runs"] if run["setting"] == setting]
        assert sorted(found) == list(range(seeds))
    for run in record["runs"]:
        assert set(run) == {"seed", "setting", "claims", "values", "seconds", "peak_mb"}
        assert [claim["name"] for claim in run["claims"]] == [
            claim["name"] for claim in record["runs"][0]["claims"]
        ]


@pytest.mark.parametrize("label", SHIPPED)
def test_quick_records_are_of_todays_settings(label):
    """If this fails: renew the record by the command that it names; `quick` takes minutes."""
    if SHIPPED[label]["profile"] == "quick":
        assert not records.is_stale(SHIPPED[label]), SHIPPED[label]["command"]


@pytest.mark.parametrize("label", SHIPPED)
def test_every_seed_and_the_next_one_bear_the_claims_out(label):
    record = SHIPPED[label]
    assert runs.faults(record) == []
    for run in record["runs"]:
        assert runs.holds(run)


def test_numbers_on_the_digits():
    """Five seeds of `quick`."""
    acc = {}
    for setting in ("default", "replay=none", "replay=exact", "replay_vae=false"):
        seen = records.values(DGR, "acc", setting)
        assert len(seen) == 5
        acc[setting] = sum(seen) / 5
    assert 0.18 <= acc["replay=none"] <= 0.22
    assert acc["default"] >= acc["replay=none"] + 0.5
    assert acc["replay=exact"] > 0.95
    assert acc["replay_vae=false"] <= acc["default"] - 0.25


def test_measurements_of_a_method_agree_with_their_matrix():
    for run in DGR["runs"]:
        values = run["values"]
        for name, function in (("acc", metrics.acc), ("bwt", metrics.bwt)):
            assert values[name] == pytest.approx(function(values["R"]), abs=2e-4)
        assert values["fwt"] == pytest.approx(metrics.fwt(values["R"], values["R0"]), abs=2e-4)


def test_the_order_on_permuted_digits():
    """Five seeds, five times the steps: dreams and stored digits beat noise, and noise nothing."""
    record = SHIPPED["dgr.permuted-digits.quick-permuted"]
    settings = ("replay=none", "replay=noise", "default", "replay=exact")
    none, noise, dreams, exact = (records.values(record, "acc", one) for one in settings)
    assert len(none) == 5
    assert min(dreams) > max(noise) and min(exact) > max(noise)


def test_generators_that_learn_digit_after_digit():
    """Five seeds of `quick`: what is drawn after ten digits, and both ends of lam_ra."""
    record = SHIPPED["mergan.split-digits-10.quick"]
    sft, jtr, ra = ("mode=sft", "mode=jtr", "default")
    fakes = {key: records.values(record, "fakes", key) for key in (sft, jtr, ra)}
    assert len(fakes[ra]) == 5
    assert max(fakes[sft]) < 0.15 and min(fakes[jtr]) > 0.85 and min(fakes[ra]) > 0.93
    for name, at_least in (("reverse", -0.05), ("change", 0)):
        pairs = zip(*(records.values(record, name, key) for key in (jtr, ra)), strict=True)
        signed = [(b - a) if name == "reverse" else (a - 1.5 * b) for a, b in pairs]
        assert min(signed) >= at_least
    assert max(records.values(record, "fakes", "lam_ra=0.0001")) < 0.3
    strong = [np.array(G, dtype=float) for G in records.values(record, "G", "lam_ra=10000")]
    for G in strong:
        new = np.isnan(G[:-1]) & ~np.isnan(G[1:])
        assert G[1:][new].mean() < 0.3, "new classes are learned against the strongest pull"


def probed(name, setting="default", label="finetune.halved-digits.quick-narrow"):
    return np.array(records.values(SHIPPED[label], name, setting), dtype=float)


def test_features_forget_less_in_all_and_as_much_of_their_gain():
    """Six seeds of `quick`: what outputs, probes and the ensemble keep of the digits."""
    R, LP, ensemble = (probed(name) for name in ("R", "LP", "ensemble"))
    assert len(R) == 6
    output, features = (
        probe.relative_forgetting(M, probed(name)) for M, name in ((R, "R0"), (LP, "LP0"))
    )
    assert output.lost.sum() >= 2 * features.lost.sum()
    assert abs(output.ratio - features.ratio) <= 0.3 and min(output.ratio, features.ratio) > 0.3
    assert (ensemble - LP)[:, -1].mean() >= 0.05
    ahead = [(ensemble - LP)[:, i, i + 1] for i in (1, 2, 3)]
    assert np.mean(ahead, axis=0).min() > 0


def test_exclusion_shrinks_but_not_to_zero_in_five_experiences():
    gaps = [
        np.array([probe.exclusion(a, b, k) for a, b in zip(probed("LP"), without, strict=True)])
        for k in range(4)
        for without in (probed("LP", f"without={k}"),)
    ]
    at = np.mean([gap[:, k] for k, gap in enumerate(gaps)], axis=0)
    end = np.mean([gap[:, -1] for gap in gaps], axis=0)
    assert (at - end).min() > 0
    mean, half = metrics.mean_interval(end)
    assert mean - half > 0
    LP = probed("LP")
    for k, gap in enumerate(gaps):
        before = LP[:, k - 1, k] if k else probed("LP0")[:, 0]
        assert gap[:, k] == pytest.approx(LP[:, k, k] - before, abs=2e-4)


def test_exclusion_goes_to_zero_on_cifar():
    """Three seeds, ten experiences: eight later, it does not matter that there was a second."""
    label = "finetune.split-cifar100-10.laptop-conv"
    LP, without = probed("LP", label=label), probed("LP", "without=1", label)
    gap = np.array([probe.exclusion(a, b, 1) for a, b in zip(LP, without, strict=True)])
    assert gap[:, 1].min() > 0.09 and gap[:, -1].max() < 0.02
    later = np.mean([(probed("ensemble", label=label) - LP)[:, i, i + 1 :].mean(1)
                     for i in range(2, 9)], axis=0)  # fmt: skip
    assert later.min() > 0.02


def test_gdumb_rises_with_its_memory():
    record, sizes = SHIPPED["gdumb.split-digits.quick"], (10, 20, 50, 100, 200, 500)
    keys = ["default" if size == 100 else f"memory={size}" for size in sizes]
    acc = [sum(records.values(record, "acc", key)) / 5 for key in keys]
    assert acc == sorted(acc)


def test_images_and_a_vae_under_one_budget():
    """Five seeds: up to 1, 10 and 100 kB of stored digits beat a VAE that takes as much."""
    images, dreams = SHIPPED["gdumb.split-digits.quick"], SHIPPED["dgr.split-digits-5.quick"]
    for memory, vae in (("memory=10", 1), ("default", 12), ("memory=500", 78)):
        pairs = ((images, memory, "buffer"), (dreams, f"vae_hidden={vae}", "generator"))
        stored, drawn = (records.values(one, "acc", key) for one, key, _ in pairs)
        sizes = [records.values(one, "carried", key)[0][role][1] for one, key, role in pairs]
        assert len(stored) == 5 and sizes[0] <= sizes[1]
        assert min(np.subtract(stored, drawn)) > 0


def test_masks_and_growth():
    """Five seeds: masks keep old images as they were, growth keeps late classes learnable."""
    record = SHIPPED["dgm.split-digits-10.quick"]
    none, fixed, grown, weights = (
        records.values(record, "acc", one)
        for one in ("mask=none", "grow=false", "default", "mask=weights")
    )
    assert len(none) == 5
    for a, b, c, d in zip(none, fixed, grown, weights, strict=True):
        assert min(c, d) >= a + 0.5 and c >= b + 0.1
    for key in ("grow=false", "default", "mask=weights"):
        for series in records.values(record, "samples", key):
            assert series["change"] == [None, *[0.0] * 9]


# --- the parts -----------------------------------------------------------------------------------


def claims_record(values, at_least=None, at_most=None):
    one = {"name": "c", "live": True, "at_least": at_least, "at_most": at_most}
    return {"runs": [{"claims": [one | {"value": value}]} for value in values]}


def test_faults():
    # Mean 0.8, s = 0.1, three seeds: one further run lies in [0.303, 1.297].
    seen = [0.7, 0.8, 0.9]
    assert runs.faults(claims_record(seen, at_least=0.3, at_most=1.3)) == []
    assert runs.faults(claims_record(seen)) == []
    for bounds in ({"at_least": 0.31}, {"at_most": 1.29}, {"at_least": 0.75}):
        (fault,) = runs.faults(claims_record(seen, **bounds))
        assert fault.startswith("c: 0.800 [0.303, 1.297], 3 seeds")
    assert runs.faults(claims_record([0.6], at_least=0.5)) == []
    assert len(runs.faults(claims_record([0.4], at_least=0.5))) == 1
    for bounds in ({"at_least": 0.5}, {"at_most": 0.5}):
        assert len(runs.faults(claims_record([math.nan, 0.5], **bounds))) == 1, "NaN bears nothing"


def test_a_seed_outside_the_interval_of_all_is_a_fault_too():
    # Mean 0.86, s = 0.179, 20 seeds: the interval is [0.476, 1.244], and one seed is at 0.1.
    (fault,) = runs.faults(claims_record([0.9] * 19 + [0.1], at_least=0.4))
    assert fault.startswith("c: 0.860 [0.476, 1.244], 20 seeds")
    assert runs.faults(claims_record([0.9] * 19 + [0.1], at_least=0.1)) == []


def test_describe():
    assert records.describe([0.7, 0.8, 0.9]) == "0.800 [0.303, 1.297], 3 seeds"
    assert records.describe([0.5]) == records.describe([]) == "–"


def test_values_of_a_setting_and_of_no_record():
    record = {"runs": [{"seed": s, "setting": name, "values": {"acc": s + len(name)}, "claims": []}
                       for name in ("default", "a=1") for s in (0, 1)]}  # fmt: skip
    assert records.values(record, "acc") == [7, 8]
    assert records.values(record, "acc", "a=1") == [3, 4]
    assert records.values(record, "acc", "a=2") == [] == records.values(None, "acc")
    assert records.claim_values(None, "c") == []


def test_stale_is_another_value_or_another_field():
    record = {"profile": "quick", "config": {"dgr": records.settings_of("dgr", "quick")}}
    assert not records.is_stale(json.loads(json.dumps(record)))
    altered = copy.deepcopy(record)
    altered["config"]["dgr"]["lr"] *= 2
    assert records.is_stale(altered)
    altered = copy.deepcopy(record)
    altered["config"]["dgr"]["more"] = 1
    assert records.is_stale(altered)
    reordered = dict(reversed(record["config"]["dgr"].items()))
    assert not records.is_stale(record | {"config": {"dgr": reordered}})
    assert records.is_stale(record | {"profile": "laptop"})


def test_settings_are_those_of_the_profile_without_the_seed():
    quick, laptop = (records.settings_of("dgr", profile) for profile in ("quick", "laptop"))
    assert "seed" not in quick and quick["hidden"] == 100 and laptop["hidden"] == 400
    with pytest.raises(UserError):
        records.settings_of("dgr", "fast")


def test_a_profile_of_the_same_settings_shares_the_record():
    """`paper` is `laptop` for dgr: without this notebook 01 has no bars to show there."""
    shared = records.method("dgr", "split-mnist", "paper")
    assert shared == SHIPPED["dgr.split-mnist.laptop"]
    assert records.method("dgr", "split-mnist", "quick") is None


def test_a_folder_that_takes_no_record_is_told_beforehand(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "file" / "recorded")
    with pytest.raises(UserError, match="cannot write to .* record from a checkout of your own"):
        records.require_writable()
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "new")
    records.require_writable()
    assert list((tmp_path / "new").iterdir()) == []


def test_write_is_whole_or_not_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "folder", lambda: tmp_path / "recorded")
    assert records.everything() == {} and records.notebook("01", "quick") is None
    path = records.write("01.quick", {"profile": "quick", "runs": [1]})
    assert records.notebook("01", "quick") == {"schema": 1, "profile": "quick", "runs": [1]}
    assert records.method("dgr", "toy", "quick") is None
    assert records.everything() == {"01.quick": records.notebook("01", "quick")}

    def fails(*paths):
        raise PermissionError

    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        patch.setattr(os, "replace", fails)
        records.write("01.quick", {"profile": "quick", "runs": [2]})
    with pytest.raises(TypeError):
        records.write("01.quick", {"runs": object()})
    assert records.notebook("01", "quick")["runs"] == [1]
    assert list(path.parent.iterdir()) == [path]
