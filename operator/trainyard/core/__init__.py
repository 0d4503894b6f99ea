"""Decisions about resources: pure rules over what is known, with no I/O, no kopf, no vendor SDK and no clock."""
