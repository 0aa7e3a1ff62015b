#!/usr/bin/env bash
# usage: scripts/timed.sh NAME COMMAND...   runs the command and says how long it took
SECONDS=0
name=$1
shift
"$@"
status=$?
printf '%s took %d min %02d s\n' "$name" $((SECONDS / 60)) $((SECONDS % 60))
exit $status
