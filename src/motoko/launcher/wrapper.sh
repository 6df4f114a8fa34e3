# usage: sh wrapper.sh RUN_DIRECTORY/.motoko/TOKEN COMMAND [ARGUMENT...]
#
# Takes the attempt's start file, runs the command in the run directory, leaves its exit status in
# the exit record. Builtins only, as long as all goes well: an external command would double what a
# short run costs.

# TERM to the process group is for the command; this shell lives on to write the exit record.
stopped=
trap 'stopped=1' HUP INT TERM

attempt=$1
shift
stat=
boot=
host=
namespace=
if [ -r "/proc/$$/stat" ]; then
    IFS= read -r stat <"/proc/$$/stat"
    IFS= read -r boot </proc/sys/kernel/random/boot_id
    IFS= read -r host </proc/sys/kernel/hostname
    # The inode of the PID namespace; before Linux 5.14 this does not tell it.
    while read -r key value; do
        [ "$key" != ino: ] || namespace=$value
    done 2>/dev/null 3</proc/self/ns/pid </proc/self/fdinfo/3
fi

# Where there is no room to begin, the attempt counts as never started.
not_started() {
    rm -f "$attempt/start"
    exit 111
}

# O_EXCL: whoever creates the start file first, this shell or a launcher that takes the attempt
# back, decides whether the command runs.
set -C
{ true; } 2>/dev/null >"$attempt/start" || exit 111
set +C
{ printf 'process %s\n%s\n%s\n%s\n%s\n' "$$" "$boot" "$stat" "$namespace" "$host" >"$attempt/start"; } 2>/dev/null || not_started

cd "${attempt%/.motoko/*}" || not_started
status=
{
    "$@"
    status=$?
} >stdout 2>stderr
[ -n "$status" ] || not_started

# A script can put anything in the place of the exit record: opening a FIFO would wait for ever.
clear_the_way() {
    [ -w "$attempt" ] || return 1
    [ -L "$attempt/exit" ] || [ -e "$attempt/exit" ] || return 0
    [ ! -L "$attempt/exit" ] && [ -f "$attempt/exit" ] && [ -w "$attempt/exit" ] && return 0
    rm -rf "$attempt/exit" 2>/dev/null
    [ ! -L "$attempt/exit" ] && [ ! -e "$attempt/exit" ]
}

# On a full disk the exit record waits for room, unless somebody wants an end or the directory went.
until clear_the_way && { printf 'exit %s\n' "$status" >"$attempt/exit"; } 2>/dev/null; do
    if [ -n "$stopped" ] || [ ! -d "$attempt" ] || ! clear_the_way; then
        break
    fi
    sleep 1
done
exit "$status"
