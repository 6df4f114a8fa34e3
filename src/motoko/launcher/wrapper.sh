# usage: sh wrapper.sh RUN_DIRECTORY/.motoko/TOKEN COMMAND [ARGUMENT...]
#
# Takes the attempt's start file, runs the command in the run directory, leaves its exit status in
# the exit record. Builtins only: an external command would double what a short run costs.

# TERM to the process group is for the command; this shell lives on to write the exit record.
trap : HUP INT TERM

attempt=$1
shift
stat=
boot=
if [ -r "/proc/$$/stat" ]; then
    IFS= read -r stat <"/proc/$$/stat"
    IFS= read -r boot </proc/sys/kernel/random/boot_id
fi

# O_EXCL: whoever creates the start file first, this shell or a launcher that takes the attempt
# back, decides whether the command runs.
set -C
{ printf 'process %s\n%s\n%s\n' "$$" "$boot" "$stat" >"$attempt/start"; } 2>/dev/null || exit 111
set +C

cd "${attempt%/.motoko/*}" || exit 111
exec >stdout 2>stderr
"$@"
status=$?
printf 'exit %s\n' "$status" >"$attempt/exit"
exit "$status"
