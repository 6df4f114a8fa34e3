"""The web page: access rules, the HTTP server, templates and screens.

The page is a reader. It may be stopped or stuck at any time without delaying a run, a firing or a
commit of others.
"""
