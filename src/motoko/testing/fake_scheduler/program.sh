#!/bin/sh
# One program under five names: hands its call to the fake scheduler and prints the answer.
# The call is a file of its own, announced by a line in the FIFO "calls"; the answer comes as two
# files and a line with the exit status. Few processes, for every call of a test waits for them.
here=${0%/*}/..
call=$here/call.$$
mkfifo -m 600 "$call.status" || exit 70
printf '%s\0' "${0##*/}" "$PWD" "${SLURM_BITSTR_LEN-64}" "$@" >"$call"
printf '%s\n' "$$" >"$here/calls"
read -r status <"$call.status"
[ -s "$call.out" ] && cat "$call.out"
[ -s "$call.err" ] && cat "$call.err" >&2
rm -f "$call" "$call.status" "$call.out" "$call.err"
exit "$status"
