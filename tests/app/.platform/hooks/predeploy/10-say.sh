#!/bin/sh
set -eu
echo "tendril: version $TENDRIL_VERSION follows ${TENDRIL_PREVIOUS_VERSION:-nothing}"
