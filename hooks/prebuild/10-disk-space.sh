#!/bin/sh
# Refuses to begin when a file system that the deploy writes to is nearly full: a build that fails half way for want of
# space leaves more rubbish, and a full disk takes down what runs. Asks to be tried again later, since space is often freed.
#
# From the environment properties: DISK_SPACE_MIN_MB (default 256; 0: never refuse), DISK_SPACE_MIN_INODES (default 10000).
# MOCK=echo prints what would be run. Runs twice without harm: it changes nothing.
set -eu

min_mb=${DISK_SPACE_MIN_MB:-256}
min_inodes=${DISK_SPACE_MIN_INODES:-10000}

# Column 4 of the second line of `df -P` (POSIX), a number or "-" where the file system does not count.
available() {
        if [ -n "${MOCK:-}" ]; then
                "$MOCK" df "$@" >&2
                echo -
                return
        fi
        df "$@" | awk 'NR == 2 { print $4 }'
}

refuse() {
        echo "tendril: $*"
        exit 75
}

is_below() {
        case $1 in
        '' | *[!0-9]*) return 1 ;; # not counted, or not known: no reason to refuse
        esac
        [ "$1" -lt "$2" ]
}

for number in "$min_mb" "$min_inodes"; do
        case $number in
        '' | *[!0-9]*)
                echo "tendril: DISK_SPACE_MIN_MB and DISK_SPACE_MIN_INODES must be numbers, not \"$number\""
                exit 1
                ;;
        esac
done

for dir in / "${TENDRIL_APP_DIR:-/var/app}" /tmp; do
        [ -d "$dir" ] || continue
        mb=$(available -P -m "$dir")
        if is_below "$mb" "$min_mb"; then
                refuse "only $mb MB are free on the file system of $dir, and $min_mb are wanted: free some," \
                        "or set DISK_SPACE_MIN_MB"
        fi
        inodes=$(available -P -i "$dir")
        # File systems without a fixed number of inodes say 0 of 0.
        if [ "$inodes" != 0 ] && is_below "$inodes" "$min_inodes"; then
                refuse "only $inodes inodes are free on the file system of $dir, and $min_inodes are wanted:" \
                        "remove files, or set DISK_SPACE_MIN_INODES"
        fi
done
