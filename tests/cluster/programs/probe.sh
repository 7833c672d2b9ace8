# The probe (see probe.c) as bash and coreutils in pipelines.
look() {
    local line mode
    line=$(LC_ALL=C stat -c '%f|%u|%g|%s|%.9Y|%i|%h' "$1" 2>/dev/null) || { echo "$1 errno 2"; return; }
    IFS='|' read -r mode uid gid size mtime ino nlink <<<"$line"
    printf '%s %o %s %s %s %s %s %s' "$1" "0x$mode" "$uid" "$gid" "$size" "${mtime/./}" "$ino" "$nlink"
    if [ -L "$1" ]; then printf ' -> %s' "$(readlink "$1")"; fi
    if [ -f "$1" ]; then printf ' = %s' "$(cat "$1" | od -An -v -tx1 | tr -d ' \n')"; fi
    if [ -d "$1" ]; then printf ' : %s' "$(ls -A "$1" | LC_ALL=C sort | paste -sd, -)"; fi
    echo
}
for word in "$@"; do
    case $word in
    \$*) name=${word#?}
        if [ -n "${!name+set}" ]; then echo "env $name=${!name}"; else echo "env $name unset"; fi ;;
    @host) echo "host $(uname -n)" ;;
    *) look "$word" ;;
    esac
done
