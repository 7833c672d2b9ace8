/* One notification carried out: a descriptor put into the program, or a call made in its place and the
   result written to its memory. Rules: paths are resolved below the tree's root and never leave it; what
   the kernel would check first (flags, lengths) is left to the kernel by passing it on. */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "parts.h"

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#define NODE_NAME 64
#define MOST_XATTR 65536 /* the kernel's own limit, for one value and for a list */
#define RACES 8 /* openat2 says EAGAIN when a rename raced with it */

/* Flags openat takes; it ignores others, openat2 refuses them. */
#define OPEN_FLAGS (O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_DSYNC | \
                    O_SYNC | O_ASYNC | O_DIRECT | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC |      \
                    O_PATH | O_TMPFILE | 0100000 /* O_LARGEFILE, 0 in a 64-bit libc */)

static uint64_t arg(const struct pm_job *job, int index)
{
    return job->request->data.args[index];
}

int pm_job_valid(const struct pm_job *job)
{
    return ioctl(job->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &job->request->id) == 0;
}

/* ENOENT from SEND: the program's thread is gone, and nobody waits for the answer. */
static void respond(const struct pm_job *job, long long value, int error, uint32_t flags)
{
    struct seccomp_notif_resp response = {job->request->id, value, error, flags};

    while (ioctl(job->listener, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0 && errno == EINTR)
        ;
}

void pm_job_continue(const struct pm_job *job)
{
    respond(job, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

/* As the kernel returns: a value, or -errno. */
void pm_job_return(const struct pm_job *job, long long value)
{
    if (value < 0 && value >= -4095)
        respond(job, 0, (int)value, 0);
    else
        respond(job, value, 0, 0);
}

static void give_back(const struct pm_job *job, uint64_t address, const void *bytes, size_t size, long long value)
{
    int memory = pm_memory_open((pid_t)job->request->pid);
    int failed = memory < 0 ? memory : 0;

    if (!failed)
        failed = pm_job_valid(job) ? pm_memory_write(memory, address, bytes, size) : -ESRCH;
    if (memory >= 0)
        close(memory);
    pm_job_return(job, failed ? failed : value);
}

/* Fills open_flags, open_mode, resolve. 0 or -errno. */
int pm_job_read_open(struct pm_job *job)
{
    struct open_how how = {0};
    int index = job->caught->path;

    if (job->caught->op == OP_OPENAT2) {
        uint64_t size = arg(job, 3);

        if (size < sizeof how) /* the kernel refuses it in its own words */
            return -EINVAL;
        if (pm_read((pid_t)job->request->pid, arg(job, 2), &how, sizeof how))
            return -EFAULT;
    } else if (job->caught->op == OP_CREAT) {
        how.flags = O_CREAT | O_WRONLY | O_TRUNC;
        how.mode = arg(job, 1) & 07777;
    } else {
        how.flags = (uint32_t)arg(job, index + 1) & OPEN_FLAGS;
        if (how.flags & O_PATH)
            how.flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        if (how.flags & O_CREAT || (how.flags & O_TMPFILE) == O_TMPFILE)
            how.mode = arg(job, index + 2) & 07777;
    }
    job->open_flags = how.flags;
    job->open_mode = how.mode;
    job->resolve = how.resolve;
    return 0;
}

static int open_below(int root, const char *path, const struct open_how *how, int tries)
{
    long fd = -1;

    for (; tries > 0; tries--) {
        fd = syscall(SYS_openat2, root, path, how, sizeof *how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return fd < 0 ? -errno : (int)fd;
}

/* A descriptor below that root, or -errno, with the rights that the thread has. On this machine no magic link is
   followed: those of /proc/self would be ours. */
int pm_job_open_below(const struct pm_job *job, int root, const char *path, uint64_t flags)
{
    uint64_t always = job->here ? RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS : RESOLVE_IN_ROOT;
    struct open_how how = {flags | O_CLOEXEC, 0, always};

    return open_below(root, path, &how, RACES);
}

/* The same for a call that opens. */
static int open_in_tree(const struct pm_job *job, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    uint64_t always = job->here ? RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS : RESOLVE_IN_ROOT;
    struct open_how how = {flags | O_CLOEXEC, mode, resolve | always};
    char path[PM_PATH + 1];
    int fd = pm_job_put_on(job);

    if (fd < 0)
        return fd;
    snprintf(path, sizeof path, "%s%s", job->found.value, job->slash ? "/" : "");
    fd = open_below(job->found.root, path, &how, resolve ? 1 : RACES);
    pm_job_take_off(job);
    return fd;
}

static int creates(uint64_t flags)
{
    return !(flags & O_PATH) && (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE);
}

/* The answer is a descriptor, which the program gets. */
void pm_job_hand_over(const struct pm_job *job, int fd, int close_on_exec)
{
    struct seccomp_notif_addfd give = {
        .id = job->request->id,
        .flags = SECCOMP_ADDFD_FLAG_SEND,
        .srcfd = (uint32_t)fd,
        .newfd_flags = close_on_exec ? O_CLOEXEC : 0,
    };

    while (ioctl(job->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give) < 0) {
        if (errno == EINTR)
            continue;
        pm_job_return(job, -errno); /* EMFILE is the program's; ENOENT: nobody waits any more */
        break;
    }
}

static void carry_open(struct pm_job *job)
{
    /* The kernel hands no O_PATH descriptor over; one opened for reading serves its uses but for links.
       NONBLOCK: a fifo would wait for its other end. */
    uint64_t flags = job->open_flags & O_PATH ? (job->open_flags & ~(uint64_t)O_PATH) | O_NONBLOCK : job->open_flags;
    int fd = creates(flags) ? pm_job_take_mask(job) : 0;

    if (fd == 0)
        fd = open_in_tree(job, flags, job->open_mode, job->resolve);
    if (fd < 0) {
        pm_job_return(job, fd);
        return;
    }
    pm_job_hand_over(job, fd, (job->open_flags & O_CLOEXEC) != 0);
    close(fd);
}

static void carry_stat(const struct pm_job *job, int fd)
{
    struct stat got;
    long flags = AT_EMPTY_PATH;
    int path = job->caught->path;

    if (job->caught->op == OP_FSTATAT)
        flags |= (long)(int)arg(job, 3) & ~AT_SYMLINK_NOFOLLOW;
    if (syscall(SYS_newfstatat, fd, "", &got, flags) < 0)
        pm_job_return(job, -errno);
    else
        give_back(job, arg(job, path + 1), &got, sizeof got, 0);
}

static void carry_statx(const struct pm_job *job, int fd)
{
    struct statx got;
    long flags = ((long)(int)arg(job, 2) & ~AT_SYMLINK_NOFOLLOW) | AT_EMPTY_PATH;

    if (syscall(SYS_statx, fd, "", flags, (unsigned)arg(job, 3), &got) < 0)
        pm_job_return(job, -errno);
    else
        give_back(job, arg(job, 4), &got, sizeof got, 0);
}

static void carry_access(const struct pm_job *job, int fd)
{
    long flags = AT_EMPTY_PATH;
    int failed;

    if (job->caught->op == OP_FACCESSAT2)
        flags |= (long)(int)arg(job, 3) & ~AT_SYMLINK_NOFOLLOW;
    if (job->here) /* the rights in caller are those of the real ids already */
        flags |= AT_EACCESS;
    failed = pm_job_put_on(job);
    if (!failed) {
        failed = syscall(SYS_faccessat2, fd, "", (int)arg(job, job->caught->path + 1), flags) < 0 ? -errno : 0;
        pm_job_take_off(job);
    }
    pm_job_return(job, failed);
}

static void carry_statfs(const struct pm_job *job, int fd)
{
    struct statfs got;

    if (fstatfs(fd, &got) < 0)
        pm_job_return(job, -errno);
    else
        give_back(job, arg(job, 1), &got, sizeof got, 0);
}

/* Extended attributes cannot be read from an O_PATH descriptor, but through its name in /proc they can. */
static ssize_t read_xattr(const struct pm_job *job, int fd, int list, char *value, size_t room)
{
    char place[32], name[XATTR_NAME_MAX + 1];
    int failed = list ? 0 : pm_read_string((pid_t)job->request->pid, arg(job, 1), name, sizeof name);
    ssize_t size;

    if (failed < 0)
        return failed == -ENAMETOOLONG ? -ERANGE : failed;
    snprintf(place, sizeof place, "/proc/self/fd/%d", fd);
    failed = pm_job_put_on(job);
    if (failed)
        return failed;
    size = list ? listxattr(place, value, room) : getxattr(place, name, value, room);
    size = size < 0 ? -errno : size;
    pm_job_take_off(job);
    return size;
}

static void carry_xattr(const struct pm_job *job, int fd)
{
    int list = job->caught->op == OP_LISTXATTR || job->caught->op == OP_LLISTXATTR;
    int place = list ? 1 : 2;
    uint64_t asked = arg(job, place + 1);
    size_t room = asked > MOST_XATTR ? MOST_XATTR : (size_t)asked;
    char *value = malloc(room + 1);
    ssize_t size = value ? read_xattr(job, fd, list, value, room) : -ENOMEM;

    if (size > 0 && room > 0)
        give_back(job, arg(job, place), value, (size_t)size, size);
    else
        pm_job_return(job, size);
    free(value);
}

/* The answer to a readlink, a getcwd or a uname. */
void pm_job_text(struct pm_job *job, const char *text, int size)
{
    struct utsname names;

    if (job->caught->op == OP_UNAME) {
        uname(&names);
        memset(names.nodename, 0, sizeof names.nodename);
        memcpy(names.nodename, text, size > NODE_NAME ? NODE_NAME : (size_t)size);
        give_back(job, arg(job, 0), &names, sizeof names, 0);
    } else if (job->caught->op == OP_GETCWD) {
        if (arg(job, 1) < (uint64_t)size + 1)
            pm_job_return(job, -ERANGE);
        else
            give_back(job, arg(job, 0), text, (size_t)size + 1, size + 1); /* with its NUL */
    } else if (job->kind == PM_READLINK) {
        int room = (int)arg(job, job->caught->path + 2);

        if (room <= 0)
            pm_job_return(job, -EINVAL);
        else
            give_back(job, arg(job, job->caught->path + 1), text, (size_t)(size < room ? size : room),
                      size < room ? size : room);
    } else {
        pm_job_return(job, -EIO); /* a feature answered a question for a file with a text */
    }
}

static void carry_readlink(struct pm_job *job, int fd)
{
    char target[PATH_MAX];
    ssize_t size = readlinkat(fd, "", target, sizeof target);

    if (size < 0)
        pm_job_return(job, errno == ENOENT ? -EINVAL : -errno); /* ENOENT: "" of something not a link */
    else
        pm_job_text(job, target, (int)size);
}

static void carry_by_path(struct pm_job *job)
{
    int fd = open_in_tree(job, job->follow ? O_PATH : O_PATH | O_NOFOLLOW, 0, 0);

    if (fd < 0) {
        pm_job_return(job, fd);
        return;
    }
    switch (job->caught->op) {
    case OP_STATX: carry_statx(job, fd); break;
    case OP_ACCESS: case OP_FACCESSAT: case OP_FACCESSAT2: carry_access(job, fd); break;
    case OP_READLINK: case OP_READLINKAT: carry_readlink(job, fd); break;
    case OP_STATFS: carry_statfs(job, fd); break;
    case OP_GETXATTR: case OP_LGETXATTR: case OP_LISTXATTR: case OP_LLISTXATTR: carry_xattr(job, fd); break;
    default: carry_stat(job, fd);
    }
    close(fd);
}

/* The verdict in job->found, done. */
void pm_job_carry_out(struct pm_job *job)
{
    job->borrowed = 0;
    if (job->here && !pm_job_borrow(job))
        return;
    if (job->found.verdict == PM_ERRNO)
        pm_job_return(job, -job->found.code);
    else if (job->found.verdict == PM_TEXT)
        pm_job_text(job, job->found.value, job->found.size);
    else if (job->found.verdict != PM_TREE_PATH)
        pm_job_continue(job);
    else if (job->kind == PM_OPEN_READ || job->kind == PM_OPEN_WRITE)
        carry_open(job);
    else if (job->kind == PM_HOSTNAME)
        pm_job_return(job, -EIO);
    else if (job->kind == PM_CHANGE)
        pm_job_carry_change(job);
    else if (job->kind == PM_WATCH)
        pm_job_carry_watch(job);
    else if (job->caught->op == OP_CHDIR)
        pm_job_carry_chdir(job);
    else
        carry_by_path(job);
}
