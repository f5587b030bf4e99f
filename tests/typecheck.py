"""The type checker of the annotated rooms: an int is welcome where a float is, as in Python's own numeric tower (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
