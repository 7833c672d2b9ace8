/* Processes that are left alone: by the name of their executable or of argv[0]. Looked up only where the
   answer would change something, so that what is untouched costs nothing. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "parts.h"

static int listed(const char *path, char **names, int count)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    for (int i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return 0;
}

int pm_skipped(pid_t pid, char **names, int count)
{
    char place[32], text[PM_PATH];
    ssize_t size;
    int fd;

    if (count == 0)
        return 0;
    snprintf(place, sizeof place, "/proc/%d/exe", pid);
    size = readlink(place, text, sizeof text - 1);
    text[size < 0 ? 0 : size] = 0;
    if (listed(text, names, count))
        return 1;
    snprintf(place, sizeof place, "/proc/%d/cmdline", pid);
    fd = open(place, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size < 0 ? 0 : size] = 0;
    return listed(text, names, count);
}
