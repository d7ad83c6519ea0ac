"""The wire: what comes in and what goes out, as pydantic models and bytes."""
