"""An event-driven worker that carries out live-stream moderation verdicts at the CDN."""

__version__ = "0.1.0"
