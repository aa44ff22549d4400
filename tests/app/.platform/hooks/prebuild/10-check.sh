#!/bin/sh
set -eu
# Runs as root in the staging folder, before anything that is served changes.
test -f VERSION
echo "tendril: preparing version $(cat VERSION)"
