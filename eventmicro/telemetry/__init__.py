"""What a service shows to the tools of those who run it: metrics for Prometheus, traces and metrics by OpenTelemetry.

Each module loads its own library only: `from eventmicro.telemetry.tracing import Tracing`.
"""
