/* The program's memory. Rules: strings are read in pieces that end at page borders, so that a short
   string at the end of a mapping is no fault; where process_vm_readv is refused, /proc/PID/mem serves.
   A pid may be another's by the time it is used: reading is checked afterwards, but what is written is
   written, so the memory is opened first, then the caller is checked, then that memory is written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "parts.h"

#define PAGE 4096u
#define FIRST_PIECE 256u /* nearly every path fits, and copying a whole page costs more than it saves */

static int open_memory(pid_t pid, int flags)
{
    char name[32];
    int fd;

    snprintf(name, sizeof name, "/proc/%d/mem", pid);
    fd = open(name, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int read_by_file(pid_t pid, uint64_t address, void *into, size_t size)
{
    int fd = open_memory(pid, O_RDONLY);
    ssize_t done;

    if (fd < 0)
        return fd;
    done = pread(fd, into, size, (off_t)address);
    close(fd);
    return done == (ssize_t)size ? 0 : -EFAULT;
}

int pm_read(pid_t pid, uint64_t address, void *into, size_t size)
{
    struct iovec ours = {into, size}, theirs = {(void *)(uintptr_t)address, size};
    ssize_t done = process_vm_readv(pid, &ours, 1, &theirs, 1, 0);

    if (done == (ssize_t)size)
        return 0;
    if (done < 0 && (errno == EPERM || errno == ENOSYS))
        return read_by_file(pid, address, into, size);
    return done < 0 ? -errno : -EFAULT;
}

/* A descriptor for pm_memory_write, which goes to this process whoever has the pid then; or -errno. */
int pm_memory_open(pid_t pid)
{
    return open_memory(pid, O_WRONLY);
}

/* Unlike the kernel's own answer it also reaches memory the program itself may only read. */
int pm_memory_write(int memory, uint64_t address, const void *from, size_t size)
{
    return pwrite(memory, from, size, (off_t)address) == (ssize_t)size ? 0 : -EFAULT;
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
