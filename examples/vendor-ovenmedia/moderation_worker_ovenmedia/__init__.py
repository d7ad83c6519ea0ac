"""OvenMediaEngine, a media server: ``delete_stream`` cuts, ``get_stream`` tells whether a stream is live."""

from moderation_worker_ovenmedia.api import OvenMedia

__all__ = ["OvenMedia"]
