#!/bin/sh
set -eu
# Runs when the version is served already; its failure turns the host back.
test "$(pwd -P)" != /
