"""An embedded broker, simulated vendors and a demo: the worker without any account."""
