# usage: sh wrapper.sh RUN_DIRECTORY/.motoko/TOKEN COMMAND [ARGUMENT...]
#
# Takes the attempt's start file, runs the command in the run directory, leaves its exit status in
# the exit record. Builtins only, as long as all goes well: an external command would double what a
# short run costs. Its variables have names that no environment has: one that came from there would
# be changed for the command.

# TERM to the process group is for the command; this shell lives on to write the exit record.
motoko_stopped=
trap 'motoko_stopped=1' HUP INT TERM

motoko_attempt=$1
shift
motoko_stat=
motoko_boot=
motoko_host=
motoko_namespace=
if [ -r "/proc/$$/stat" ]; then
    IFS= read -r motoko_stat <"/proc/$$/stat"
    IFS= read -r motoko_boot </proc/sys/kernel/random/boot_id
    IFS= read -r motoko_host </proc/sys/kernel/hostname
    # The inode of the PID namespace; before Linux 5.14 this does not tell it.
    while read -r motoko_key motoko_value; do
        [ "$motoko_key" != ino: ] || motoko_namespace=$motoko_value
    done 2>/dev/null 3</proc/self/ns/pid </proc/self/fdinfo/3
fi

# Where there is no room to begin, the attempt counts as never started.
not_started() {
    rm -f "$motoko_attempt/start"
    exit 111
}

# O_EXCL: whoever creates the start file first, this shell or a launcher that takes the attempt
# back, decides whether the command runs.
set -C
{ true; } 2>/dev/null >"$motoko_attempt/start" || exit 111
set +C
{ printf 'process %s\n%s\n%s\n%s\n%s\n' "$$" "$motoko_boot" "$motoko_stat" "$motoko_namespace" "$motoko_host" >"$motoko_attempt/start"; } 2>/dev/null || not_started

cd "${motoko_attempt%/.motoko/*}" || not_started
motoko_status=
{
    "$@"
    motoko_status=$?
} >stdout 2>stderr
[ -n "$motoko_status" ] || not_started

# A script can put anything in the place of the exit record: opening a FIFO would wait for ever.
clear_the_way() {
    [ -w "$motoko_attempt" ] || return 1
    [ -L "$motoko_attempt/exit" ] || [ -e "$motoko_attempt/exit" ] || return 0
    [ ! -L "$motoko_attempt/exit" ] && [ -f "$motoko_attempt/exit" ] && [ -w "$motoko_attempt/exit" ] && return 0
    rm -rf "$motoko_attempt/exit" 2>/dev/null
    [ ! -L "$motoko_attempt/exit" ] && [ ! -e "$motoko_attempt/exit" ]
}

# Whether it is for lack of room that there is no exit record; dd says so, the shell may not.
no_room() {
    motoko_words=$({ printf 'exit %s\n' "$motoko_status" | LC_ALL=C dd of="$motoko_attempt/exit"; } 2>&1)
    case $motoko_words in
    *"No space left"* | *"uota exceeded"*) return 0 ;;
    esac
    return 1
}

# On a full disk the exit record waits for room, unless somebody wants an end or the directory went.
until clear_the_way && { printf 'exit %s\n' "$motoko_status" >"$motoko_attempt/exit"; } 2>/dev/null; do
    if [ -n "$motoko_stopped" ] || [ ! -d "$motoko_attempt" ] || ! clear_the_way || ! no_room; then
        break
    fi
    sleep 1
done
exit "$motoko_status"
