"""What a service shows of itself to the tools of those who run it: Prometheus' metrics. Nothing of it costs a message
anything: what is counted anyway is written down when somebody asks for it.
"""
