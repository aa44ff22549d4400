"""The application's second process: one of it runs at a time."""

import signal

signal.pause()
