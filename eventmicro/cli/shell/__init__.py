"""`eventmicro shell`: the commands over one connection that is held, with history, completion, and the last replies.

`command` is what a user starts; `lines` runs line by line, with a prompt or from a script; `session` holds what the
commands share; `words` reads a line; `replies` keeps what was answered; `completing` and `fields` know what may follow.
"""
