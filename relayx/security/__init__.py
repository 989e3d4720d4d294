"""Keys, signatures and hashed secrets; imports of relayx the core alone, and no Twisted.

All cryptography is that of ``cryptography``, ``rfc8785`` and the standard library.
"""
