"""Echo servers under load: one server process, one native client process, the server's CPU time per
message.
"""
