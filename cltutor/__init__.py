"""cltutor: a teaching kit on generative continual learning. Start with notebooks/ or README.md."""

__version__ = "0.1.0"
