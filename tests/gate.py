"""A method that goes on only when a test lets it."""

import threading


class Gate:
    """Holds a method back before every tick, until the test lets it go on."""

    def __init__(self, monkeypatch, module, limit=10):
        self.ticks, self.allowed, self.arrived = 0, threading.Semaphore(0), threading.Semaphore(0)
        run = module.run

        def gated(*args, **options):
            inner = run(*args, **options)
            while True:
                self.arrived.release()
                assert self.allowed.acquire(timeout=limit)
                tick = next(inner, None)
                if tick is None:
                    return
                self.ticks += 1
                yield tick

        monkeypatch.setattr(module, "run", gated)

    def let(self, n: int) -> None:
        """Let n ticks happen, and return when the method waits for the next."""
        for _ in range(n):
            assert self.arrived.acquire(timeout=10)
            self.allowed.release()

    def stop(self, session) -> None:
        """Stop in the middle of a tick: the worker is let through to it."""
        assert self.arrived.acquire(timeout=10)
        session.stop()
        assert session.state == "stopping"
        self.allowed.release()
        assert session.wait(10) == "stopped"
