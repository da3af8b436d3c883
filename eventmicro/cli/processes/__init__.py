"""Services in processes of their own: what `eventmicro run` starts, keeps, marks and stops.

`supervisor` keeps the workers of one command, each a `worker` behind its `link`; `folder` says what a settings file
runs, and `running` makes a `fleet` of it; `marked` is what all of them print. `here` runs services in this process,
and `options` is how it is said what to run.
"""
