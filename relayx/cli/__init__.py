"""The ``relayx`` command, one small module a sub-command."""
