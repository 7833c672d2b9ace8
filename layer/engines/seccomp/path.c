/* Paths as text: pure functions, no system call. Rules: the normal form is for deciding only (what goes
   on untouched is resolved by the kernel from what the program wrote); a trailing slash is remembered. */
#include <string.h>

#include "parts.h"

static size_t drop_last(const char *path, size_t size)
{
    while (size > 0 && path[size - 1] != '/')
        size--;
    return size > 1 ? size - 1 : 0;
}

/* raw is absolute; into gets it without //, /./ and /../, at least "/". *slash: it asked for a directory
   by ending so (enum pm_end). Returns the length. */
int pm_normalise(const char *raw, char *into, int *slash)
{
    size_t size = 0;

    *slash = 0;
    while (*raw) {
        size_t part;

        while (*raw == '/')
            raw++;
        part = strcspn(raw, "/");
        *slash = part == 0                                           ? PM_END_SLASH
                 : part == 1 && raw[0] == '.'                        ? PM_END_DOT
                 : part == 2 && raw[0] == '.' && raw[1] == '.'       ? PM_END_DOTS
                                                                     : PM_END_NAME;
        if (part == 2 && raw[0] == '.' && raw[1] == '.') {
            size = drop_last(into, size);
        } else if (part && !(part == 1 && raw[0] == '.')) {
            into[size++] = '/';
            memcpy(into + size, raw, part);
            size += part;
        }
        raw += part;
    }
    if (size == 0)
        into[size++] = '/';
    into[size] = 0;
    return (int)size;
}

/* Is path the prefix itself or below it? */
int pm_below(const char *path, const char *prefix)
{
    size_t size = strlen(prefix);

    return strncmp(path, prefix, size) == 0 && (path[size] == 0 || path[size] == '/');
}

/* /proc/self and /proc/thread-self are the program's own, whatever the rules for /proc say. */
int pm_is_own_proc(const char *path)
{
    return pm_below(path, "/proc/self") || pm_below(path, "/proc/thread-self");
}
