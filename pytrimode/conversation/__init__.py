"""Chats of many turns, and the passes of a running answer as a live view shows them."""
