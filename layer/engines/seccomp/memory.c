/* The program's memory. Rules: strings are read in pieces that end at page borders, so that a short
   string at the end of a mapping is no fault; where process_vm_* is refused, /proc/PID/mem serves. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "parts.h"

#define PAGE 4096u
#define FIRST_PIECE 256u /* nearly every path fits, and copying a whole page costs more than it saves */

static int by_file(pid_t pid, uint64_t address, void *bytes, size_t size, int writing)
{
    char name[32];
    ssize_t done;
    int fd;

    snprintf(name, sizeof name, "/proc/%d/mem", pid);
    fd = open(name, (writing ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    done = writing ? pwrite(fd, bytes, size, (off_t)address) : pread(fd, bytes, size, (off_t)address);
    close(fd);
    return done == (ssize_t)size ? 0 : -EFAULT;
}

static int move(pid_t pid, uint64_t address, void *bytes, size_t size, int writing)
{
    struct iovec ours = {bytes, size}, theirs = {(void *)(uintptr_t)address, size};
    ssize_t done = writing ? process_vm_writev(pid, &ours, 1, &theirs, 1, 0)
                           : process_vm_readv(pid, &ours, 1, &theirs, 1, 0);

    if (done == (ssize_t)size)
        return 0;
    if (done < 0 && (errno == EPERM || errno == ENOSYS))
        return by_file(pid, address, bytes, size, writing);
    return done < 0 ? -errno : -EFAULT;
}

int pm_read(pid_t pid, uint64_t address, void *into, size_t size)
{
    return move(pid, address, into, size, 0);
}

int pm_write(pid_t pid, uint64_t address, const void *from, size_t size)
{
    return move(pid, address, (void *)(uintptr_t)from, size, 1);
}

/* The string's length, or -errno; ENAMETOOLONG when it does not end within size. */
int pm_read_string(pid_t pid, uint64_t address, char *into, size_t size)
{
    size_t have = 0, piece = FIRST_PIECE;

    while (have < size) {
        size_t to_border = PAGE - ((address + have) & (PAGE - 1));
        char *end;
        int failed;

        if (piece > to_border)
            piece = to_border;
        if (piece > size - have)
            piece = size - have;
        failed = pm_read(pid, address + have, into + have, piece);
        if (failed)
            return failed;
        end = memchr(into + have, 0, piece);
        if (end)
            return (int)(end - into);
        have += piece;
        piece = PAGE;
    }
    return -ENAMETOOLONG;
}
