"""For all tests: one torch thread, a cache of their own, no widgets, no network; a toy stream."""

import ipaddress
import os
import socket
import sys

import pytest
import torch

from cltutor.stream import Stream

pytest.register_assert_rewrite("contract", "gate")

SHAPE, TRAIN, TEST = (1, 4, 4), 24, 10  # images of an experience


def toy_stream(scenario: str = "class", seed: int = 0) -> Stream:
    """Three experiences of two classes, each class a random 4x4 pattern with some noise."""
    rng = torch.Generator().manual_seed(seed)
    patterns = torch.randint(0, 200, (6, *SHAPE), generator=rng)
    parts = []
    for k in range(3):
        first = 0 if scenario == "domain" else 2 * k
        part = {"classes": (first, first + 1), "permutation": None}
        for end, n in (("", TRAIN), ("_test", TEST)):
            y = torch.arange(n) % 2
            noise = torch.randint(0, 56, (n, *SHAPE), generator=rng)
            part["x" + end] = (patterns[2 * k + y] + noise).to(torch.uint8)
            part["y" + end] = first + y
        parts.append(part)
    return Stream("toy", scenario, 2 if scenario == "domain" else 6, SHAPE, tuple(parts))


def toy_maps(scenario: str = "class", seed: int = 0) -> Stream:
    """As `toy_stream`, each image four patches of two classes or of class 0, with their map."""
    rng = torch.Generator().manual_seed(seed)
    grey = torch.randint(0, 200, (3, 7), generator=rng)
    parts = []
    for k in range(3):
        classes = (0, 1, 2) if scenario == "domain" else (0, 2 * k + 1, 2 * k + 2)
        part = {"classes": classes, "permutation": None}
        for end, n in (("", TRAIN), ("_test", TEST)):
            patches = torch.tensor(classes)[torch.randint(0, 3, (n, 2, 2), generator=rng)]
            y = patches.repeat_interleave(2, 1).repeat_interleave(2, 2)
            noise = torch.randint(0, 56, (n, 1, 4, 4), generator=rng)
            part["x" + end] = (grey[k][y][:, None] + noise).to(torch.uint8)
            part["y" + end] = y
        parts.append(part)
    outputs = 3 if scenario == "domain" else 7
    return Stream("toymaps", scenario, outputs, SHAPE, tuple(parts), target="map")


@pytest.fixture(scope="session")
def toy():
    """`toy(scenario="class", seed=0)` makes a toy stream."""
    return toy_stream


@pytest.fixture(scope="session")
def toy_for():
    """`toy_for(name, label, scenario="class")`: the one whose labels suit the setting."""

    def suiting(name: str, label: str, scenario: str = "class") -> Stream:
        maps = name == "mib" or label == "net=segmenter"
        return (toy_maps if maps else toy_stream)(scenario)

    return suiting


@pytest.fixture(scope="module")
def small_nets():
    """JDCL's networks, whose sizes no Config has, as small as `contract.small` makes others."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = {"mlp": (8, 3, 8), "unet": (4, 2, 8), "attention": (4, 2, 8)}
        patch.setattr("cltutor.nets.joint.SIZES", sizes)
        yield


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The browser's path; skips where there is none, but not in CI."""
    import browser

    path = browser.chromium()
    if path is None:
        assert not os.environ.get("CI"), "CI may not skip this: .ci/run installs chromium"
        pytest.skip("there is no chromium: install it, or set CHROMIUM to its path")
    return path


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory):
    """One torch thread, an empty cache, no widgets."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLTUTOR_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("CLTUTOR_HEADLESS", "1")
        yield


def pytest_configure(config):
    config.addinivalue_line("markers", "network: the test may open connections to other machines.")
    sys.addaudithook(watch_network)


guard = {"on": False, "reached": []}


def watch_network(event: str, arguments: tuple) -> None:
    """Refuse, and note, what would leave this machine. An audit hook sees every library's calls."""
    if not guard["on"] or event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        return
    address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    host = address[0] if isinstance(address, tuple) else address
    if event != "socket.getaddrinfo" and not isinstance(address, tuple):
        return  # the socket of this machine's own file system
    if not is_local(host):
        guard["reached"].append(f"{event} {host}")
        raise OSError(f"a test may not reach {host}: mark it `network` if it must")


def is_local(host) -> bool:
    """Whether a host is this machine."""
    host = host.decode() if isinstance(host, bytes) else host
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(request):
    """Fail a test that reached out, even if the code took the refusal for a lost connection.

    Gives the list of what was tried.
    """
    guard["on"] = request.node.get_closest_marker("network") is None
    guard["reached"].clear()
    yield guard["reached"]
    guard["on"] = False
    if guard["reached"]:
        pytest.fail(f"the test used the network: {', '.join(guard['reached'])}")
