"""The operator's HTTP: what the gateway says of itself, and what it can be told to do.

``server`` speaks HTTP within limits, ``access`` says who may ask what, ``routes`` is the table of
everything that is served, ``openapi`` the document made of it, ``api`` answers, ``model`` has the
types of the answers. What the gateway is to it stands in ``gateway``.
"""
