"""Projects: what they are made of, by templates of Copier, and how they get to their place.

`plan` is what is asked for, and what follows from that; `filling` makes it, whole or not at all; `finding` looks at
what is there already.
"""
